"""`cost_models` is light: no PyTensor, and nothing heavy before it is needed."""

import subprocess
import sys

import pytest

HEAVY = ("pytensor", "numba", "sklearn", "scipy", "yaml", "threadpoolctl", "archspec", "platformdirs")


def modules_after(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def after_import() -> set[str]:
    return modules_after("import cost_models")


@pytest.mark.parametrize("library", HEAVY)
def test_import_loads_nothing_heavy(after_import: set[str], library: str) -> None:
    assert library not in after_import


def test_finding_a_profile_loads_neither_pytensor_nor_sklearn() -> None:
    loaded = modules_after("import cost_models; cost_models.find_profile(); cost_models.fingerprint()")
    assert "yaml" in loaded
    assert not loaded & {"pytensor", "numba", "sklearn"}
