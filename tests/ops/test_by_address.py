"""What the Ops run under Numba is compiled once: callers hold none of it, and another size adds nothing."""

import os
import subprocess
import sys
from contextlib import contextmanager

import numba
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numba.core import event, types

from autotune.ops import CholeskyOrLU, CholeskyOrLUSolve, LowRankFactor
from autotune.ops._by_address import by_address, python_by_address, readable
from autotune.ops.numba_dispatch import either_factor


@contextmanager
def compiled_functions():
    """The modules of the functions that Numba compiles meanwhile, neither found in memory nor on disk."""
    with event.install_recorder("numba:compile") as recorder:
        modules: list[str] = []
        yield modules
    starts = (e.data["dispatcher"].py_func for _, e in recorder.buffer if e.is_start)
    modules += [str(function.__module__) for function in starts]


def solve_of_order(n):
    A, B = pt.matrix("A", shape=(n, n)), pt.matrix("B", shape=(n, 2))
    f = pytensor.function([A, B], CholeskyOrLUSolve()(*CholeskyOrLU()(A), B), mode="NUMBA")
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(n, n)), rng.normal(size=(n, 2))
    np.testing.assert_allclose(A @ f(A, B), B, atol=1e-10)
    return f


def half_in_python():
    """The factor of a matrix of which only Python knows the algorithm."""
    d, U = pt.vector("d"), pt.matrix("U")
    f = pytensor.function([d, U], LowRankFactor(symmetric=False)(d, U, U)[-1], mode="NUMBA")
    np.testing.assert_allclose(f(np.ones(3), np.ones((3, 1))), np.log(4))


def test_another_size_compiles_nothing_of_ours():
    solve_of_order(5)
    with compiled_functions() as modules:
        solve_of_order(7)
    assert not [module for module in modules if module.startswith("autotune")]


def test_a_caller_holds_no_code_of_what_it_calls():
    caller = numba.njit(lambda A: either_factor(A, False))
    F, pivots, is_cholesky = caller(np.array([[0.0, 1.0], [1.0, 0.0]]))
    np.testing.assert_array_equal(F, np.eye(2))
    assert (pivots.tolist(), is_cholesky) == ([1, 1], 0)
    [code] = caller.inspect_llvm().values()
    assert "getrf" not in code


@pytest.mark.parametrize("order", [np.ascontiguousarray, np.asfortranarray, lambda x: x[::2, ::2]])
def test_one_compiled_function_serves_every_memory_order(order):
    A = order(np.arange(36.0).reshape(6, 6))
    A.flags.writeable = False
    F, pivots, _ = numba.njit(lambda A: either_factor(A, False))(A)
    L, U = np.tril(F, -1) + np.eye(len(A)), np.triu(F)
    expected = A.copy()
    for i, j in enumerate(pivots):
        expected[[i, j]] = expected[[j, i]]
    np.testing.assert_allclose(L @ U, expected, atol=1e-12)


def raising(x):
    raise ValueError("the reason")


def impossible(x):
    return x.no_such_attribute


@pytest.mark.parametrize("make", [by_address, python_by_address])
def test_errors_reach_the_caller(make):
    function = make(raising, lambda T: types.float64(readable(T, 1)))
    with pytest.raises(ValueError, match="the reason"):
        numba.njit(lambda x: function(x))(np.ones(2))


def test_what_cannot_be_compiled_is_an_error_and_no_crash(capfd):
    function = by_address(impossible, lambda T: types.float64(readable(T, 1)))
    with pytest.raises(RuntimeError, match="could not be compiled"):
        numba.njit(lambda x: function(x))(np.ones(2))
    assert "no_such_attribute" in capfd.readouterr().err


@pytest.mark.slow
def test_code_on_disk_serves_another_process(tmp_path):
    """It holds no address of the process that compiled it."""
    code = (
        "import sys; sys.path[:0] = ['tests/ops', 'tests'];"
        "from test_by_address import compiled_functions, half_in_python, solve_of_order\n"
        "with compiled_functions() as modules: solve_of_order(5)\n"
        "half_in_python()\n"
        "print(len(modules))"
    )
    flags = f"{os.environ['PYTENSOR_FLAGS']},base_compiledir={tmp_path}"
    command = [sys.executable, "-c", code]
    counts = [
        int(subprocess.run(command, env=os.environ | {"PYTENSOR_FLAGS": flags}, stdout=-1, check=True).stdout)
        for _ in range(2)
    ]
    assert counts[0] > 0
    assert counts[1] == 0
