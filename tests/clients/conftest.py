"""What a client compiles by the way, such as a starting point, takes a Python linker and no compiler."""

import pytensor
import pytest


@pytest.fixture(autouse=True)
def _python_by_default():
    with pytensor.config.change_flags(linker="vm", cxx=""):
        yield
