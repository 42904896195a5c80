"""What all Ops promise: a light import, pickles that work in a fresh process, no gradient."""

import pickle
import subprocess
import sys

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
    CholeskySolveMany,
    LanczosLogdet,
    LowRankFactor,
    LowRankInverseDiagonal,
    LowRankSolve,
    LowRankSolveColumns,
    LowRankSolveInRange,
    LUInverse,
    PartialCholesky,
    SymmetricRoot,
)

OPS = [
    CholeskyInverse(),
    CholeskyInverse(overwrite_a=True),
    CholeskySolveMany(),
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
    LowRankSolveInRange(),
    SymmetricRoot(),
    BlockCG(),
    PartialCholesky(),
    LanczosLogdet(),
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


def test_an_unpickled_graph_has_its_numba_implementation():
    L = pt.matrix("L")
    code = (
        "import pickle, sys, pytensor; L, out = pickle.loads(sys.stdin.buffer.read());"
        "from pytensor.link.numba.dispatch.basic import numba_funcify_default_op_cache_key as registry;"
        "print(type(out.owner.op.core_op) in registry.registry)"
    )
    out = Blockwise(CholeskyOrLU())(L, return_list=True)[0]
    assert run_fresh(code, pickle.dumps((L, out))) == "True"


def test_ops_of_the_final_graph_have_no_gradient():
    L = pt.matrix("L")
    with pytest.raises(NotImplementedError):
        grad(Blockwise(CholeskyInverse())(L).sum(), L)


def test_the_leaf_package_imports_nothing_else_of_autotune_and_numba_late():
    code = (
        "import sys, autotune.ops._base as b; print('autotune.ops.numba_dispatch' in sys.modules);"
        "b.ensure_numba_dispatch();"
        "print([m for m in sys.modules if m.startswith('autotune.') and not m.startswith('autotune.ops')])"
    )
    assert run_fresh(code).split() == ["False", "[]"]
