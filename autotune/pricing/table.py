"""Which kernels each Op runs: the one table from Op type to rule, and the way to look an Op up in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytensor.compile.builders import FinalizedOpFromGraph, OpFromGraph
from pytensor.compile.ops import DeepCopyOp, TypeCastingOp
from pytensor.conditional.op import IfElse, LazyIfElse
from pytensor.raise_op import CheckAndRaise
from pytensor.scalar.basic import ScalarOp
from pytensor.scan.op import Scan
from pytensor.tensor import basic, elemwise, extra_ops, fft, subtensor
from pytensor.tensor.blas.batched import BatchedDot
from pytensor.tensor.blas.gemm import Dot22, Dot22Scalar, Gemm
from pytensor.tensor.blas.gemv import Gemv
from pytensor.tensor.blockwise import Blockwise, OpWithCoreShape
from pytensor.tensor.linalg import constructors, inverse, products, summary
from pytensor.tensor.linalg.decomposition import cholesky, eigen, lu, qr, schur, svd
from pytensor.tensor.linalg.solvers import general, linear_control, lstsq, psd, triangular, tridiagonal
from pytensor.tensor.math import Argmax, Dot
from pytensor.tensor.random.op import RNGConsumerOp
from pytensor.tensor.reshape import JoinDims, SplitDims
from pytensor.tensor.shape import Reshape, Shape, Shape_i, SpecifyShape
from pytensor.tensor.sort import ArgSortOp, SortOp

from autotune import ops
from autotune.pricing import elementwise as loops
from autotune.pricing import inner, linalg, moving
from autotune.pricing.arrays import Cost, SizedNode, Unknown
from cost_models import call


def _of_parts(rule: Callable[[SizedNode, inner.CostOf], Cost]) -> linalg.Rule:
    """A rule that asks this table for the cost of what is inside."""
    return lambda sized: rule(sized, cost_of)


COSTS: dict[type, linalg.Rule] = {
    # Linear algebra.
    cholesky.Cholesky: linalg.plain_cholesky,
    psd.CholeskySolve: linalg.solve("potrs"),
    triangular.SolveTriangular: linalg.solve("trsm"),
    general.Solve: linalg.general_solve,
    lu.LUFactor: linalg.factor("getrf"),
    lu.LU: linalg.factor("getrf", copies=1),
    inverse.MatrixInverse: linalg.factor("inv"),
    summary.Det: linalg.factor("slogdet", copies=1),
    summary.SLogDet: linalg.factor("slogdet", copies=1),
    inverse.MatrixPinv: linalg.rectangular(24),
    inverse.TensorInv: linalg.by_flops(2),
    lstsq.Lstsq: linalg.rectangular(12),
    lstsq.TensorSolve: linalg.by_flops(2 / 3),
    svd.SVD: linalg.rectangular(21),
    qr.QR: linalg.rectangular(4),
    eigen.Eigh: linalg.eigh(1.0),
    eigen.Eigvalsh: linalg.eigh(linalg.EIGENVALUES_ONLY),
    eigen.Eig: linalg.by_flops(25),
    schur.Schur: linalg.by_flops(25),
    schur.QZ: linalg.by_flops(66),
    products.Expm: linalg.expm,
    linear_control.TRSYL: linalg.by_flops(2),
    tridiagonal.LUFactorTridiagonal: linalg.tridiagonal,
    tridiagonal.SolveLUFactorTridiagonal: linalg.tridiagonal,
    # Products.
    Dot: linalg.product,
    Dot22: linalg.product,
    Dot22Scalar: linalg.product,
    Gemm: linalg.gemm,
    Gemv: linalg.gemv,
    BatchedDot: linalg.batched_dot,
    # Ours.
    ops.SharedCholesky: linalg.on_matrix(ops.SharedCholesky),
    ops.SharedLU: linalg.on_matrix(ops.SharedLU),
    ops.Gram: linalg.gram,
    ops.CholeskyInverse: linalg.on_matrix(ops.CholeskyInverse),
    ops.CholeskySolveMany: linalg.solve_many,
    ops.LUInverse: linalg.on_matrix(ops.LUInverse),
    ops.CholeskyOrLU: linalg.cholesky_or_lu,
    ops.FactorOrNaN: moving.nothing,
    ops.ExchangeSign: moving.passes(1),
    ops.FactorSlogdet: linalg.factor_slogdet,
    ops.CholeskyOrLUSolve: linalg.cholesky_or_lu_solve,
    ops.CholeskyOrLUInverse: linalg.cholesky_or_lu_inverse,
    ops.LowRankFactor: linalg.low_rank_factor,
    ops.LowRankSolve: linalg.low_rank_solve,
    ops.LowRankSolveColumns: linalg.low_rank_solve,
    ops.LowRankSolveInRange: linalg.low_rank_solve,
    ops.LowRankInverseDiagonal: linalg.low_rank_diagonal,
    ops.BandedFactor: linalg.on_band(),
    ops.BandedSolve: linalg.on_band(rhs=3),
    ops.BandedLogdetPullback: linalg.on_band(),
    ops.BandedDot: linalg.on_band(rhs=1),
    ops.BandedOuter: linalg.on_band(rhs=0),
    ops.QuasiseparableFactor: linalg.on_line(2),
    ops.QuasiseparableSolve: linalg.on_line(4, rhs=6),
    ops.QuasiseparableLogdetPullback: linalg.on_line(4),
    ops.QuasiseparableDot: linalg.on_line(2, rhs=6),
    ops.QuasiseparableOuter: linalg.on_line(3, rhs=0),
    ops.ToeplitzFactor: linalg.by_lengths,
    ops.ToeplitzSolve: linalg.by_lengths,
    ops.ToeplitzDot: linalg.by_lengths,
    ops.ToeplitzOuter: linalg.by_lengths,
    ops.CirculantFactor: linalg.by_lengths,
    ops.CirculantSolve: linalg.by_lengths,
    ops.CirculantDot: linalg.by_lengths,
    ops.CirculantOuter: linalg.by_lengths,
    ops.SparseFactor: linalg.on_pattern("sparse_factor"),
    ops.SparseSolve: linalg.on_pattern("sparse_solve", rhs=1),
    ops.SparseLogdetPullback: linalg.on_pattern("sparse_inverse"),
    ops.SparseDot: linalg.on_entries(1),
    ops.SparseOuter: linalg.on_entries(0),
    ops.SymmetricRoot: linalg.symmetric_root,
    ops.BlockCG: linalg.block_cg,
    ops.PartialCholesky: linalg.partial_cholesky,
    ops.LanczosLogdet: linalg.lanczos,
    # Loops over all numbers.
    elemwise.Elemwise: loops.elementwise,
    elemwise.CAReduce: loops.reduction,
    FinalizedOpFromGraph: _of_parts(inner.fused),
    Argmax: moving.cumulative,
    extra_ops.CumOp: moving.cumulative,
    SortOp: moving.sorting,
    ArgSortOp: moving.sorting,
    extra_ops.Unique: moving.sorting,
    extra_ops.SearchsortedOp: moving.passes(3),
    fft.RFFTOp: moving.transform,
    fft.IRFFTOp: moving.transform,
    RNGConsumerOp: moving.drawing,
    # Making, copying and selecting.
    basic.Alloc: moving.filling,
    basic.AllocEmpty: moving.nothing,
    basic.ARange: moving.filling,
    basic.Eye: moving.matrix_with_diagonal,
    basic.Join: moving.joining,
    basic.Split: moving.view_or_copy,
    basic.MakeVector: moving.nothing,
    basic.ExtractDiag: moving.view_or_copy,
    basic.Nonzero: moving.passes(1),
    basic.PermuteRowElements: moving.passes(1),
    basic.Choose: moving.passes(1),
    DeepCopyOp: moving.passes(moving.COPY),
    extra_ops.CpuContiguous: moving.passes(moving.COPY),
    extra_ops.Repeat: moving.passes(moving.COPY),
    extra_ops.FillDiagonal: moving.passes(moving.COPY),
    extra_ops.FillDiagonalOffset: moving.passes(moving.COPY),
    constructors.BaseBlockDiagonal: moving.passes(moving.COPY),
    lu.PivotToPermutations: moving.passes(1),
    subtensor.Subtensor: moving.view_or_copy,
    subtensor.AdvancedSubtensor: moving.passes(1),
    subtensor.IncSubtensor: moving.increment,
    subtensor.AdvancedIncSubtensor: moving.increment,
    # Views, shapes, numbers.
    elemwise.DimShuffle: moving.nothing,
    Reshape: moving.nothing,
    Shape: moving.nothing,
    Shape_i: moving.nothing,
    SpecifyShape: moving.nothing,
    JoinDims: moving.nothing,
    SplitDims: moving.nothing,
    basic.TensorFromScalar: moving.nothing,
    basic.ScalarFromTensor: moving.nothing,
    TypeCastingOp: moving.nothing,
    CheckAndRaise: moving.nothing,
    ScalarOp: moving.nothing,
    IfElse: moving.nothing,
    # Graphs inside.
    Blockwise: _of_parts(inner.blockwise),
    OpWithCoreShape: _of_parts(inner.inner_graph),
    OpFromGraph: _of_parts(inner.inner_graph),
    LazyIfElse: _of_parts(inner.conditional),
    Scan: _of_parts(inner.scan),
}
"""The nearest class of an Op that is listed here has its rule."""


def rule_of(op: Any) -> linalg.Rule | None:
    """The rule of an Op; None if none of its classes has one."""
    return next((COSTS[cls] for cls in type(op).__mro__ if cls in COSTS), None)


def cost_of(sized: SizedNode) -> Cost:
    """Kernels and work space of a node; ``Unknown`` if it has no rule or a size is not known."""
    if any(a.dtype.startswith("complex") for a in (*sized.inputs, *sized.outputs)):
        raise Unknown("complex numbers have no prices")
    rule = rule_of(sized.op)
    if rule is None:
        raise Unknown("this operation has no entry in the table of costs")
    found = rule(sized)
    is_number = not any(a.shape for a in (*sized.inputs, *sized.outputs))
    return found if found.calls or is_number else Cost((call("node"),), found.workspace)
