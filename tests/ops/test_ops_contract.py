"""What all Ops promise: a light import, pickles that work in a fresh process, no gradient, cached machine
code."""

import pickle
import subprocess
import sys

import numpy as np
import pytensor.tensor as pt
import pytest
from pytensor.gradient import grad
from pytensor.tensor.blockwise import Blockwise

from autotune.ops import (
    BlockCG,
    CholeskyInverse,
    CholeskyOrLU,
    CholeskyOrLUInverse,
    CholeskyOrLUSolve,
    LanczosInverse,
    LanczosInverseOfParts,
    LanczosLogdet,
    LowRankFactor,
    LowRankInverseDiagonal,
    LowRankSolve,
    LowRankSolveColumns,
    LUInverse,
    PartialCholesky,
)

OPS = [
    CholeskyInverse(),
    CholeskyInverse(overwrite_a=True),
    LUInverse(),
    CholeskyOrLU(),
    CholeskyOrLU(overwrite_a=True),
    CholeskyOrLUSolve(),
    CholeskyOrLUSolve(transposed=True),
    CholeskyOrLUInverse(overwrite_f=True),
    LowRankFactor(symmetric=True, positive_definite=True),
    LowRankFactor(symmetric=False),
    LowRankSolve(symmetric=False, transposed=True),
    LowRankInverseDiagonal(symmetric=True),
    LowRankSolveColumns(),
    BlockCG(),
    PartialCholesky(),
    LanczosLogdet(),
    LanczosInverse(),
    LanczosInverseOfParts(),
]


def run_fresh(code, data=b""):
    result = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode().strip()


@pytest.mark.parametrize("op", OPS, ids=str)
def test_an_op_survives_pickling(op):
    copy = pickle.loads(pickle.dumps(op))
    assert copy == op
    assert hash(copy) == hash(op)
    assert copy.destroy_map == op.destroy_map


@pytest.mark.parametrize("op", [CholeskyInverse(), CholeskyOrLU()], ids=str)
def test_an_unpickled_graph_has_its_numba_implementation(op):
    L = pt.matrix("L")
    code = (
        "import pickle, sys, pytensor; L, out = pickle.loads(sys.stdin.buffer.read());"
        "from pytensor.link.numba.dispatch.basic import numba_funcify_default_op_cache_key as registry;"
        "print(type(out.owner.op.core_op) in registry.registry)"
    )
    out = Blockwise(op)(L, return_list=True)[0]
    assert run_fresh(code, pickle.dumps((L, out))) == "True"


def test_importing_the_ops_does_not_import_numba_dispatch():
    code = "import sys, autotune.ops; print('autotune.ops.numba_dispatch' in sys.modules)"
    assert run_fresh(code) == "False"


def test_ops_of_the_final_graph_have_no_gradient():
    L = pt.matrix("L")
    with pytest.raises(NotImplementedError):
        grad(Blockwise(CholeskyInverse())(L).sum(), L)


def test_the_leaf_package_imports_nothing_else_of_autotune():
    code = (
        "import sys, autotune.ops._base as b; b.ensure_numba_dispatch();"
        "print([m for m in sys.modules if m.startswith('autotune.') and not m.startswith('autotune.ops')])"
    )
    assert run_fresh(code) == "[]"


def test_compiled_code_and_python_take_the_same_decision(low_rank):
    rng = np.random.default_rng(3)
    for scale in (1.0, 1e-3, 1e-7, 0.0):
        d, U, c, B = rng.uniform(0.5, 2, 50), rng.normal(size=(50, 3)), np.ones(3), rng.normal(size=(50, 1))
        d[:2] *= scale
        plain, compiled = (
            low_rank.function(True, True, linker=linker)(d, U, c, B) for linker in ("py", "numba")
        )
        for a, b in zip(plain, compiled, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_blas_products_in_python_are_those_under_numba():
    from numba import njit

    from autotune.ops import _thin

    def products(A, B):
        left, right, square = np.empty((3, 4)), np.empty((5, 5)), np.zeros((3, 3))
        _thin.gemm(A, B, left, True)
        _thin.gemm(A, A, right, False)
        _thin.syrk(A, square)
        return left, right, np.tril(square)

    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(5, 3)), rng.normal(size=(5, 4))
    for compiled, python in zip(njit(products)(A, B), products(A, B), strict=True):
        np.testing.assert_allclose(compiled, python, rtol=1e-13)
