"""The one-way rule between the packages, and what importing them costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "cost_models": {"cost_models"},
    "calibration": {"calibration", "cost_models", "autotune.ops", "pytensor"},
    "autotune/ops": {"autotune.ops", "pytensor"},
    "autotune": {"autotune", "cost_models", "pytensor", "pymc"},
}
WATCHED = ("cost_models", "calibration", "autotune", "pytensor", "pymc")
# The command line, and it alone, runs calibrations.
EXCEPTIONS = {path: {"calibration"} for path in ("autotune/cli/main.py", "autotune/cli/map.py")}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] in WATCHED}


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    return [p for p in found if package != "autotune" or "ops" not in p.relative_to(ROOT).parts]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_one_way(package):
    wrong = {}
    for path in files(package):
        relative = path.relative_to(ROOT).as_posix()
        allowed = MAY_IMPORT[package] | EXCEPTIONS.get(relative, set())
        bad = {n for n in imported(path) if not any(n == a or n.startswith(a + ".") for a in allowed)}
        parents = {a.rsplit(".", 1)[0] for a in allowed if "." in a}
        if bad - parents:
            wrong[relative] = sorted(bad - parents)
    assert wrong == {}


def loaded_by(code: str, names: tuple[str, ...]) -> list[str]:
    script = f"import sys; {code}; print(*[n for n in {names!r} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return result.stdout.split()


def test_import_is_light():
    assert loaded_by("import autotune", ("pytensor", "numpy", "sklearn", "pydantic", "numba")) == []
    heavy = ("sklearn", "calibration", "matplotlib", "pymc")
    assert loaded_by("import autotune; autotune.mode()", heavy) == []
    assert loaded_by("import cost_models", ("pytensor", "sklearn", "numba")) == []
