"""Policy files to read, copy and edit: `importlib.resources.files("configs") / "default.yaml"`."""
