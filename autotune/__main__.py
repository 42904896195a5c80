"""``python -m autotune``: the command line."""

from autotune.cli import app

if __name__ == "__main__":
    app(prog_name="autotune")
