"""The rooms of the package: their map for newcomers, and what importing them costs.

Which way imports go is checked by import-linter (`make lint`).
"""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def rooms() -> list[str]:
    """The rooms of autotune, the highest first, as the contract on imports has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    [layers] = [c["layers"] for c in settings["contracts"] if c["id"] == "rooms"]
    names = [name.strip() for layer in layers for name in layer.split("|")]
    return [name.removeprefix("autotune.") for name in names if name.startswith("autotune.")]


def test_every_room_has_its_place_in_the_contract():
    folders = {path.parent.name for path in (ROOT / "autotune").glob("*/__init__.py")}
    assert set(rooms()) == folders
    files = {path.name for path in (ROOT / "autotune").glob("*.py")}
    assert files == {"__init__.py", "__main__.py"}


def test_the_map_for_newcomers_says_what_the_rooms_say():
    rows = [f"| `{room}/` | {first_line(room)} |" for room in rooms()]
    assert "\n".join(rows) in (ROOT / "CONTRIBUTING.md").read_text()


def first_line(room: str) -> str:
    text = ast.get_docstring(ast.parse((ROOT / "autotune" / room / "__init__.py").read_text()))
    return text.split("\n\n")[0].replace("\n", " ")


def test_imports_inside_functions_have_a_reason():
    """Of the package's own modules: said by the module's first lines or the function's."""
    unsaid = []
    for path in sorted((ROOT / "autotune").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            said = "import" in f"{ast.get_docstring(tree)} {ast.get_docstring(function)}"
            if not said and any(map(is_own_import, ast.walk(function))):
                unsaid.append(f"{path.relative_to(ROOT)}: {function.name}")
    assert unsaid == []


def test_private_names_of_pytensor_stand_in_one_file():
    """But for those of its Numba backend, which the Ops need."""
    found = [
        f"{path.relative_to(ROOT)}: {alias.name}"
        for path in sorted((ROOT / "autotune").rglob("*.py"))
        if path.name != "host.py" and path.parent.name != "ops"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pytensor")
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert found == []


def is_own_import(node) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "autotune"


def loaded_by(code: str, names: tuple[str, ...]) -> list[str]:
    script = f"import sys; {code}; print(*[n for n in {names!r} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return result.stdout.split()


def test_import_is_light():
    assert loaded_by("import autotune", ("pytensor", "numpy", "sklearn", "pydantic", "numba")) == []
    heavy = ("sklearn", "calibration", "matplotlib", "pymc")
    assert loaded_by("import autotune; autotune.mode()", heavy) == []
    assert loaded_by("import cost_models", ("pytensor", "sklearn", "numba")) == []


def test_a_compile_loads_what_it_needs():
    """Without a policy no model of one, without such Ops none of their compiled code."""
    code = (
        "import pytensor, pytensor.tensor as pt, autotune; from pytensor.compile.mode import Mode;"
        "A = pt.dmatrix('A', shape=(300, 300)); f = [pt.linalg.solve(A, A[0]), pt.linalg.det(A)];"
        "f = pytensor.function([A], f, mode=autotune.mode(base=Mode('py', 'fast_run')));"
        "assert any('CholeskyOrLU' in str(node.op) for node in f.maker.fgraph.apply_nodes)"
    )
    late = ("pydantic", "rich", "psutil", "sklearn", "autotune.evidence.measured", "autotune.plan.pins")
    late += ("autotune.ops.numba_low_rank", "autotune.ops.numba_iterative", "autotune.ops.core_cg")
    assert loaded_by(code, late) == []
