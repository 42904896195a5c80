"""Ops of our own: factorisations, solves and inverses that PyTensor does not have.

A leaf package: it imports nothing else of autotune. Reading order: an Op's file (`gram`, `factor`, `inverse`,
`cholesky_or_lu`, `woodbury`, `banded`, `cg`, `lanczos`), its algorithm (``core_*.py``), then `kernels`
(LAPACK in Python) and `small` (without it), `numba_dispatch`, `numba_batches`, `numba_low_rank`,
`numba_banded` and `numba_iterative` (what they run under Numba), `_by_address` (how compiled code is
shared), `_batches`, `_batch_loops` and `_threads`, and `_lapack`, `_layout` and `_vectors` (`kernels` under
Numba). What a direct Op runs is told by its method ``kernels``, for strategies and for the prices of whole
functions.
"""

from autotune.ops._base import compile_all
from autotune.ops.banded import BandedDot, BandedFactor, BandedLogdetPullback, BandedOuter, BandedSolve
from autotune.ops.cg import BlockCG, PartialCholesky
from autotune.ops.cholesky_or_lu import (
    CholeskyOrLU,
    CholeskyOrLUInverse,
    CholeskyOrLUSolve,
    ExchangeSign,
    FactorOrNaN,
    FactorSlogdet,
)
from autotune.ops.factor import SharedCholesky, SharedLU
from autotune.ops.gram import Gram
from autotune.ops.inverse import CholeskyInverse, CholeskySolveMany, LUInverse, are_many
from autotune.ops.lanczos import LanczosLogdet
from autotune.ops.quasiseparable import (
    QuasiseparableDot,
    QuasiseparableFactor,
    QuasiseparableLogdetPullback,
    QuasiseparableOuter,
    QuasiseparableSolve,
)
from autotune.ops.sparse import SparseDot, SparseFactor, SparseLogdetPullback, SparseOuter, SparseSolve
from autotune.ops.toeplitz import (
    CirculantDot,
    CirculantFactor,
    CirculantOuter,
    CirculantSolve,
    ToeplitzDot,
    ToeplitzFactor,
    ToeplitzOuter,
    ToeplitzSolve,
)
from autotune.ops.woodbury import (
    FACTOR_FIELDS,
    LowRankFactor,
    LowRankInverseDiagonal,
    LowRankSolve,
    LowRankSolveColumns,
    LowRankSolveInRange,
    SymmetricRoot,
)

__all__ = [
    "FACTOR_FIELDS",
    "BandedDot",
    "BandedFactor",
    "BandedLogdetPullback",
    "BandedOuter",
    "BandedSolve",
    "BlockCG",
    "CholeskyInverse",
    "CholeskyOrLU",
    "CholeskyOrLUInverse",
    "CholeskyOrLUSolve",
    "CholeskySolveMany",
    "CirculantDot",
    "CirculantFactor",
    "CirculantOuter",
    "CirculantSolve",
    "ExchangeSign",
    "FactorOrNaN",
    "FactorSlogdet",
    "Gram",
    "LUInverse",
    "LanczosLogdet",
    "LowRankFactor",
    "LowRankInverseDiagonal",
    "LowRankSolve",
    "LowRankSolveColumns",
    "LowRankSolveInRange",
    "PartialCholesky",
    "QuasiseparableDot",
    "QuasiseparableFactor",
    "QuasiseparableLogdetPullback",
    "QuasiseparableOuter",
    "QuasiseparableSolve",
    "SharedCholesky",
    "SharedLU",
    "SparseDot",
    "SparseFactor",
    "SparseLogdetPullback",
    "SparseOuter",
    "SparseSolve",
    "SymmetricRoot",
    "ToeplitzDot",
    "ToeplitzFactor",
    "ToeplitzOuter",
    "ToeplitzSolve",
    "are_many",
    "compile_all",
]
