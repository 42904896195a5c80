"""Ops that the pass emits after differentiation: factorisations, solves and inverses that PyTensor does not have.

A leaf package: it imports nothing else of autotune. Reading order: an Op's file (`inverse`, `woodbury`, `cg`), its
algorithm (``core_*.py``), then `kernels` (LAPACK in Python) and `_lapack`, `_products` (the same under Numba).
"""

from autotune.ops.inverse import CholeskyInverse, LUInverse
from autotune.ops.woodbury import FACTOR_FIELDS, LowRankFactor, LowRankInverseDiagonal, LowRankSolve

__all__ = [
    "FACTOR_FIELDS",
    "CholeskyInverse",
    "LUInverse",
    "LowRankFactor",
    "LowRankInverseDiagonal",
    "LowRankSolve",
]
