"""Linear algebra: the LAPACK and BLAS routines that an Op runs under PyTensor's Numba linker.

Where no kernel is timed, the price is that of one with a known ratio of flops: general eigenvalues, singular
values, orthogonal factors (Golub & Van Loan 2013, chapters 5, 7 and 8), functions of matrices (Higham 2008).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pytensor.graph.basic import Constant
from pytensor.tensor.blockwise import Blockwise

from autotune.ops.banded import BandedFactor
from autotune.ops.cholesky_or_lu import CholeskyOrLU, CholeskyOrLUInverse, CholeskyOrLUSolve, FactorSlogdet
from autotune.ops.core_sparse import HEIGHT
from autotune.ops.gram import Gram
from autotune.ops.inverse import CholeskySolveMany
from autotune.ops.woodbury import LowRankFactor, LowRankInverseDiagonal, LowRankSolve, SymmetricRoot
from autotune.pricing.arrays import Array, Cost, SizedNode, Unknown, cost
from cost_models import KernelCall, call

Rule = Callable[[SizedNode], Cost]
GETRF_FLOPS = 2 / 3
"""Of ``getrf`` in units of n^3, the yardstick of what has no kernel."""


def factor(kernel: str, *, copies: int = 0) -> Rule:
    """A routine on an n x n matrix; ``copies`` of it are made that are not the result."""

    def rule(sized: SizedNode) -> Cost:
        matrix = sized.inputs[0]
        return cost(call(kernel, n=matrix.length(-1)), workspace=copies * matrix.bytes)

    return rule


def plain_cholesky(sized: SizedNode) -> Cost:
    """PyTensor's: of a transposed copy, or in place by the slower triangle, which costs about as much."""
    n = sized.inputs[0].length(-1)
    return cost(call("potrf", n=n), call("transpose", m=n, n=n))


def on_matrix(op) -> Rule:
    """An Op of ours on an n x n matrix, by what it says itself."""
    return lambda sized: cost(*op.kernels(sized.inputs[0].length(-1), batched=_is_batched(sized)))


def on_band(rhs: int | None = None) -> Rule:
    """An Op on a band, by what it says itself; ``rhs``: the input (n, m) of right-hand sides."""

    def rule(sized: SizedNode) -> Cost:
        if rhs is None:
            first = sized.inputs[0]
            is_band = isinstance(sized.op, BandedFactor)
            return cost(*sized.op.kernels(first.length(-1 if is_band else -2)))
        n, m = sized.inputs[rhs].shape[-2:]
        return cost(*sized.op.kernels(n, m))

    return rule


def on_pattern(kernel: str, rhs: int | None = None) -> Rule:
    """An Op on a sparse matrix, by its plan, the last input; ``rhs``: the input of right-hand sides."""

    def rule(sized: SizedNode) -> Cost:
        plan = sized.node and sized.node.inputs[-1]
        if not isinstance(plan, Constant):
            raise Unknown("the pattern of a sparse matrix is no constant")
        columns = {} if rhs is None else {"m": sized.inputs[rhs].length(-1)}
        return cost(call(kernel, n=int(plan.data[0]), b=int(plan.data[HEIGHT]), **columns))

    return rule


def on_entries(rhs: int) -> Rule:
    """A product with a sparse matrix, by its places, the last input."""
    return lambda sized: cost(*sized.op.kernels(sized.inputs[-1].length(-1), sized.inputs[rhs].length(-1)))


def on_line(states: int, rhs: int | None = None) -> Rule:
    """The same on points on a line; ``states``: the input (..., r) that tells how many there are."""

    def rule(sized: SizedNode) -> Cost:
        r = sized.inputs[states].length(-1)
        if rhs is None:
            return cost(*sized.op.kernels(sized.inputs[0].length(-1), r))
        n, m = sized.inputs[rhs].shape
        return cost(*sized.op.kernels(n, r, m))

    return rule


def by_lengths(sized: SizedNode) -> Cost:
    """An Op that says itself what it takes, of the lengths of its last input: (n,) or (n, m)."""
    return cost(*sized.op.kernels(*sized.inputs[-1].shape))


def solve(kernel: str, *, rhs: int = 1) -> Rule:
    """A routine on an n x n matrix and right-hand sides, input number ``rhs``, (n,) or (n, m)."""

    def rule(sized: SizedNode) -> Cost:
        return cost(call(kernel, n=sized.inputs[0].length(-1), m=_columns(sized, rhs)))

    return rule


def solve_many(sized: SizedNode) -> Cost:
    n, m = sized.inputs[0].length(-1), _columns(sized, 1)
    return cost(*CholeskySolveMany.kernels(n, m, batched=_is_batched(sized)))


def _columns(sized: SizedNode, rhs: int) -> int:
    b = sized.inputs[rhs]
    return b.length(-1) if len(b.shape) > 1 else 1


def general_solve(sized: SizedNode) -> Cost:
    """``Solve`` by what it may assume; under Numba what is not listed is solved as a general matrix."""
    n, m = sized.inputs[0].length(-1), _columns(sized, 1)
    copy = sized.inputs[0].bytes
    match sized.op.assume_a:
        case "pos":
            return cost(call("potrf", n=n), call("potrs", n=n, m=m), workspace=copy)
        case "sym" | "her":
            return cost(call("sysv", n=n, m=m), workspace=copy)
        case "tridiagonal":
            return cost(call("stream", n=n, count=4), call("stream", n=n * m, count=3), workspace=copy)
    return cost(call("gesv", n=n, m=m), workspace=copy)


def by_flops(n3: float, *, copies: int = 1) -> Rule:
    """An algorithm of ``n3`` n^3 flops at the speed of getrf."""

    def rule(sized: SizedNode) -> Cost:
        n = max(sized.inputs[0].length(-2), sized.inputs[0].length(-1))
        return cost(call("getrf", n=n, count=n3 / GETRF_FLOPS), workspace=copies * sized.inputs[0].bytes)

    return rule


def rectangular(factor: float) -> Rule:
    """An algorithm of ``factor * m n^2`` flops on an m x n matrix, m >= n (or the transpose)."""

    def rule(sized: SizedNode) -> Cost:
        n, m = sorted((sized.inputs[0].length(-2), sized.inputs[0].length(-1)))
        flops = factor * m / max(n, 1) / GETRF_FLOPS
        return cost(call("getrf", n=n, count=flops), workspace=sized.inputs[0].bytes)

    return rule


EIGENVALUES_ONLY = 0.4
"""Of ``syevr``: the tridiagonal form, 4/3 of 10/3 n^3 flops, and the eigenvalues of that."""


def eigh(share: float) -> Rule:
    """``share`` of the symmetric eigenvalue problem with eigenvectors, on a copy of the matrix."""

    def rule(sized: SizedNode) -> Cost:
        matrix = sized.inputs[0]
        return cost(call("syevr", n=matrix.length(-1), count=share), workspace=matrix.bytes)

    return rule


def expm(sized: SizedNode) -> Cost:
    """Scaling and squaring (Higham 2005): about ten products and a solve with n right-hand sides."""
    n = sized.inputs[0].length(-1)
    calls = call("gemm", m=n, n=n, k=n, count=10), call("gesv", n=n, m=n)
    return cost(*calls, workspace=6 * sized.inputs[0].bytes)


def tridiagonal(sized: SizedNode) -> Cost:
    """A few passes over the diagonals and the right-hand sides."""
    return cost(*(call("stream", n=a.size, count=3) for a in sized.outputs))


def product(sized: SizedNode) -> Cost:
    """``x @ y`` of vectors and matrices, the last two inputs that are not numbers."""
    x, y = [a for a in sized.inputs if a.shape and a.length(-1) >= 0][-2:]
    rows = x.length(-2) if len(x.shape) > 1 else 1
    inner = x.length(-1)
    columns = y.length(-1) if len(y.shape) > 1 else 1
    return cost(_product(rows, columns, inner))


def gram(sized: SizedNode) -> Cost:
    x = sized.inputs[0]
    return cost(*Gram.kernels(x.length(0), x.length(1)))


def _product(m: int, n: int, k: int) -> KernelCall:
    """BLAS passes once over a matrix that meets a vector: gemv, whichever side the vector is on."""
    if 1 not in (m, n):
        return call("gemm", m=m, n=n, k=k)
    return call("gemv", m=max(m, n), n=k)


def gemm(sized: SizedNode) -> Cost:
    """``C <- b C + a X Y``, inputs (C, a, X, Y, b)."""
    x, y = sized.inputs[2:4]
    return cost(_product(x.length(0), y.length(1), x.length(1)))


def gemv(sized: SizedNode) -> Cost:
    """``y <- b y + a A x``, inputs (y, a, A, x, b)."""
    a = sized.inputs[2]
    return cost(call("gemv", m=a.length(0), n=a.length(1)))


def batched_dot(sized: SizedNode) -> Cost:
    x, y = sized.inputs
    one = _product(x.length(1), y.length(2), x.length(2))
    return cost(KernelCall(one.kernel, one.dims, float(x.length(0))))


def cholesky_or_lu(sized: SizedNode) -> Cost:
    """Priced as its strategy is: the factor, and the look whether it is symmetric."""
    return cost(*CholeskyOrLU.kernels(sized.inputs[0].length(-1), **_kind(sized)))


def cholesky_or_lu_solve(sized: SizedNode) -> Cost:
    """By the factor that the matrix is priced to have, or is known to have."""
    kind = _kind(sized)
    kind["definite"] = kind["definite"] and sized.inputs[2].value != 0
    n, m = sized.inputs[0].length(-1), _columns(sized, 3)
    return cost(*CholeskyOrLUSolve.kernels(n, m, **kind))


def cholesky_or_lu_inverse(sized: SizedNode) -> Cost:
    return cost(*CholeskyOrLUInverse.kernels(sized.inputs[0].length(-1), **_kind(sized)))


def factor_slogdet(sized: SizedNode) -> Cost:
    return cost(*FactorSlogdet.kernels(sized.inputs[0].length(-1)))


def _kind(sized: SizedNode) -> dict[str, bool]:
    """One matrix is priced as positive definite, those of a batch as general, as their strategy has it."""
    batched = _is_batched(sized)
    return {"definite": not batched, "batched": batched}


def _is_batched(sized: SizedNode) -> bool:
    return isinstance(sized.node.op, Blockwise)


def low_rank_factor(sized: SizedNode) -> Cost:
    """The columns are scaled in a copy."""
    u = sized.inputs[1]
    calls = LowRankFactor.kernels(u.length(0), u.length(1), symmetric=sized.op.symmetric)
    return cost(*calls, workspace=u.bytes)


def low_rank_solve(sized: SizedNode) -> Cost:
    u, out = sized.inputs[1], sized.outputs[0]
    return cost(*LowRankSolve.kernels(u.length(0), u.length(1), out.length(1), symmetric=sized.op.symmetric))


def low_rank_diagonal(sized: SizedNode) -> Cost:
    u = sized.inputs[1]
    calls = LowRankInverseDiagonal.kernels(u.length(0), u.length(1), symmetric=sized.op.symmetric)
    return cost(*calls, workspace=u.bytes)


def symmetric_root(sized: SizedNode) -> Cost:
    M = sized.inputs[0]
    return cost(*SymmetricRoot.kernels(M.length(0)), workspace=M.bytes)


SMALL = 32
"""The order at which an iteration on a dense matrix is all fixed cost."""
PROBES = 8
"""Vectors that Lanczos works on at once."""


def block_cg(sized: SizedNode) -> Cost:
    """Half the budget of iterations: the budget is twice what convergence theory expects."""
    matrix, b, _, budget = sized.inputs[:4]
    n, m, k = b.length(0), b.length(-1), sized.inputs[9].length(-1)
    return _iterations(matrix, n, k, m, budget, workspace=3 * b.bytes)


def lanczos(sized: SizedNode) -> Cost:
    """Products with blocks of probes, half of the budget.

    The last inputs are the diagonal, the columns and their weights beside the matrix, or in its place.
    """
    matrix, _, budget = sized.inputs[:3]
    d, U, _ = sized.inputs[-3:]
    n = max(matrix.length(-1), d.length(0), U.length(0))
    workspace = 4 * PROBES * n * np.dtype(matrix.dtype).itemsize
    return _iterations(matrix, n, U.length(-1), PROBES, budget, workspace=workspace)


def _iterations(matrix: Array, n: int, k: int, m: int, budget: Array, *, workspace: float) -> Cost:
    """Products of m vectors with a matrix of order n and k columns beside it, or in its place."""
    count = n if budget.value is None else min(n, budget.value / 2)
    calls = [call("cg_iteration", n=matrix.length(-1) or min(n, SMALL), m=m, count=count)]
    if k:
        calls += [call("gemm", m=m, n=k, k=n, count=count), call("gemm", m=m, n=n, k=k, count=count)]
    return cost(*calls, workspace=workspace)


def partial_cholesky(sized: SizedNode) -> Cost:
    """About 10 n r^2 flops, five times those of the factor of a diagonal plus rank r."""
    matrix, _, d, U, _ = sized.inputs
    n, rank = max(matrix.length(-1), d.length(0), U.length(0)), sized.inputs[1].value
    if rank is None:
        raise Unknown("the rank of the preconditioner is unknown")
    if rank <= 0:
        return cost(call("stream", n=n))
    return cost(call("low_rank_factor", n=n, k=min(n, rank), count=5))
