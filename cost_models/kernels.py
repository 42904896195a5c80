"""Kernels: the primitives that algorithms are made of, and the work each one does.

Work is counted, not timed: `flops` and `bytes` are pure functions of the dimensions. Flop counts
are the leading orders of Golub & Van Loan (2013) and LAPACK Working Note 41; bytes are the numbers
that must be read and written once. Terms of lower order, whose weight only a measurement can tell,
are listed in `terms`; each must not fall when a dimension grows, so that time cannot either.
All formulas hold for numbers and for `Grid`s of them: a dimension at many points at once.

To add a kernel: one entry in `KERNELS` here and one timing graph in `calibration/graphs.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

REFERENCE_KERNELS = ("potrf", "gemm", "stream")
"""Measured on every machine in every dtype; prices that were not are scaled by what these show."""

# Numbers, or `Grid`s of one length with the numbers that are the same everywhere.
Dims = tuple[Any, ...]


class Grid(np.ndarray):
    """A size at many points: work is counted for all of them at once.

    Two are one size only if they are one object. What asks which of two sizes is larger gets NumPy's error
    that the answer is ambiguous.
    """

    __hash__ = object.__hash__  # type: ignore[assignment]


def grid(sizes: Any) -> Grid:
    """``sizes`` as a `Grid`. Floats: their products do not overflow."""
    return np.asarray(sizes, dtype=float).view(Grid)


@dataclass(frozen=True)
class Term:
    """A lower-order cost `value(dims)`, never falling in any dimension."""

    name: str
    value: Callable[[Dims], float]


@dataclass(frozen=True)
class Kernel:
    """A primitive with dimensions `dims`; `flops(dims)`, and `bytes(dims, itemsize)` touched.

    `largest(dims, itemsize)` is the size in bytes of the largest array that it allocates. `like` are kernels
    that are about as much faster or slower on another machine.
    """

    name: str
    dims: tuple[str, ...]
    flops: Callable[[Dims], float]
    bytes: Callable[[Dims, int], float]
    largest: Callable[[Dims, int], float]
    terms: tuple[Term, ...] = ()
    like: tuple[str, ...] = REFERENCE_KERNELS


@dataclass(frozen=True)
class KernelCall:
    """`count` runs of a kernel at the given sizes; `count` may be an expected number."""

    kernel: str
    dims: Dims
    count: Any = 1.0


def call(kernel: str, /, *, count: float = 1.0, **dims: Any) -> KernelCall:
    """The checked way to write a `KernelCall`: `call("gemm", m=9, n=9, k=2, count=3)`."""
    found = KERNEL_BY_NAME.get(kernel)
    if found is None:
        raise ValueError(f"There is no kernel {kernel!r}. Known are: {', '.join(KERNEL_BY_NAME)}.")
    if len(dims) != len(found.dims) or any(name not in dims for name in found.dims):
        raise ValueError(f"Kernel {kernel!r} got the dimensions {sorted(dims)}. It takes {list(found.dims)}.")
    given = [dims[name] for name in found.dims]
    sizes = tuple([size if isinstance(size, Grid) else int(size) for size in given])
    if count < 0 or any(size < 0 for size in sizes if not isinstance(size, Grid)):
        raise ValueError(
            f"Kernel {kernel!r} got {dims} and count {count}. Sizes and counts are not negative."
        )
    return KernelCall(kernel, sizes, float(count))


def _kernel(
    name: str,
    dims: str,
    flops: Callable[..., float],
    numbers: Callable[..., float],
    allocates: Callable[..., float],
    like: tuple[str, ...] = REFERENCE_KERNELS,
    **terms: Callable[..., float],
) -> Kernel:
    """Let the table below name its dimensions: `flops(n, m)` becomes `flops((n, m))`.

    `numbers` are those touched, `allocates` those of the largest new array.
    """
    return Kernel(
        name,
        tuple(dims),
        lambda sizes: 1.0 * flops(*sizes),
        lambda sizes, itemsize: 1.0 * itemsize * numbers(*sizes),
        lambda sizes, itemsize: 1.0 * itemsize * allocates(*sizes),
        tuple(_term(label, value) for label, value in terms.items()),
        like,
    )


def _term(name: str, value: Callable[..., float]) -> Term:
    return Term(name, lambda sizes: 1.0 * value(*sizes))


def _lesser(a: Any, b: Any) -> Any:
    return (a + b - abs(a - b)) // 2


def _larger(a: Any, b: Any) -> Any:
    return (a + b + abs(a - b)) // 2


def _many(n: Any, m: Any) -> Any:
    """With several right-hand sides LAPACK leaves the vector code for the matrix code."""
    return n * n * (m > 1)


def _order(n: Any) -> Any:
    return n


def _column(n: Any, m: Any) -> Any:
    """LAPACK and BLAS loop over the columns of the matrix."""
    return n


def _rhs(n: Any, m: Any) -> Any:
    """Right-hand sides are copied between row and column order, one number at a time."""
    return n * m


def _thin(n: Any, m: Any) -> Any:
    """The triangle is packed and its diagonal blocks are solved at the speed of a few right-hand sides."""
    return n * n * _lesser(m, 8)


_OWN_LOOPS = ("batch_cholesky", "batch_solve", "stream")
"""What runs in loops of our own."""


def _nothing(*sizes: int) -> float:
    return 0.0


KERNELS: tuple[Kernel, ...] = (
    # The fixed costs: one call of a compiled function, and one more small node inside it.
    _kernel("call", "", _nothing, _nothing, _nothing),
    _kernel("node", "", _nothing, _nothing, _nothing),
    # Symmetric positive definite: the factor, a solve on it, the full inverse from it.
    _kernel("potrf", "n", lambda n: n**3 / 3, lambda n: 2 * n**2, lambda n: n**2, column=lambda n: n),
    _kernel(
        "potrs",
        "nm",
        lambda n, m: 2 * n**2 * m,
        lambda n, m: n**2 + 2 * n * m,
        lambda n, m: n * m,
        many=_many,
        column=_column,
        rhs=_rhs,
    ),
    _kernel("potri", "n", lambda n: 2 * n**3 / 3, lambda n: 2 * n**2, lambda n: n**2, column=lambda n: n),
    # General matrices: the LU factor, a solve on it, the inverse from it; then from scratch.
    _kernel("getrf", "n", lambda n: 2 * n**3 / 3, lambda n: 2 * n**2, lambda n: n**2, column=lambda n: n),
    _kernel(
        "getrs",
        "nm",
        lambda n, m: 2 * n**2 * m,
        lambda n, m: n**2 + 2 * n * m,
        lambda n, m: n * m,
        many=_many,
        column=_column,
        rhs=_rhs,
    ),
    _kernel("getri", "n", lambda n: 4 * n**3 / 3, lambda n: 2 * n**2, lambda n: n**2, column=lambda n: n),
    _kernel("inv", "n", lambda n: 2 * n**3, lambda n: 2 * n**2, lambda n: n**2, column=lambda n: n),
    _kernel("slogdet", "n", lambda n: 2 * n**3 / 3, lambda n: n**2, lambda n: n**2, column=lambda n: n),
    _kernel(
        "gesv",
        "nm",
        lambda n, m: 2 * n**3 / 3 + 2 * n**2 * m,
        lambda n, m: 2 * n**2 + 2 * n * m,
        lambda n, m: n * _larger(n, m),
        column=_column,
        solve=lambda n, m: n**2 * m,
        rhs=_rhs,
    ),
    _kernel(
        "sysv",
        "nm",
        lambda n, m: n**3 / 3 + 2 * n**2 * m,
        lambda n, m: 2 * n**2 + 2 * n * m,
        lambda n, m: n * _larger(n, m),
        column=_column,
        solve=lambda n, m: n**2 * m,
        rhs=_rhs,
    ),
    _kernel(
        "trsm",
        "nm",
        lambda n, m: n**2 * m,
        lambda n, m: n**2 + 2 * n * m,
        lambda n, m: n * m,
        many=_many,
        thin=_thin,
        column=_column,
        rhs=_rhs,
    ),
    # Symmetric eigenvalues and eigenvectors: tridiagonal form 4/3 n^3, its eigenvectors brought back 2 n^3,
    # and what MRRR does between (Dhillon & Parlett 2004), O(n^2). PyTensor calls LAPACK's syevr.
    _kernel(
        "syevr",
        "n",
        lambda n: 10 * n**3 / 3,
        lambda n: 3 * n**2,
        lambda n: n**2,
        column=lambda n: n,
        pairs=lambda n: n**2,
    ),
    # The same for each matrix of a batch, in the loops of our own: no call of LAPACK for a small one.
    _kernel(
        "batch_cholesky", "n", lambda n: n**3 / 3, lambda n: 2 * n**2, lambda n: n**2, column=lambda n: n
    ),
    _kernel("batch_lu", "n", lambda n: 2 * n**3 / 3, lambda n: 2 * n**2, lambda n: n**2, column=lambda n: n),
    _kernel(
        "batch_inverse", "n", lambda n: 4 * n**3 / 3, lambda n: 2 * n**2, lambda n: n**2, column=lambda n: n
    ),
    _kernel(
        "batch_solve",
        "nm",
        lambda n, m: 2 * n**2 * m,
        lambda n, m: n**2 + 2 * n * m,
        lambda n, m: n * m,
        many=_many,
        column=_column,
        rhs=_rhs,
    ),
    # Products. The two faces that are packed cost more than the flops when one size is small, and so do
    # the edges: rows and columns that fill a register only in part.
    _kernel(
        "gemm",
        "mnk",
        lambda m, n, k: 2 * m * n * k,
        lambda m, n, k: m * k + k * n + m * n,
        lambda m, n, k: m * n,
        left=lambda m, n, k: m * k,
        right=lambda m, n, k: k * n,
        out=lambda m, n, k: m * n,
        row=lambda m, n, k: m,
        column=lambda m, n, k: n,
        inner=lambda m, n, k: k,
    ),
    _kernel(
        "gemv",
        "mn",
        lambda m, n: 2 * m * n,
        lambda m, n: m * n + m + n,
        lambda m, n: m,
        row=lambda m, n: m,
        column=lambda m, n: n,
    ),
    # Passes over memory.
    _kernel("stream", "n", lambda n: n, lambda n: 3 * n, lambda n: n),
    _kernel("fill", "n", lambda n: n, lambda n: n, lambda n: n),
    _kernel("exp", "n", lambda n: n, lambda n: 2 * n, lambda n: n),
    _kernel("log", "n", lambda n: n, lambda n: 2 * n, lambda n: n),
    _kernel("tanh", "n", lambda n: n, lambda n: 2 * n, lambda n: n),
    _kernel("reduce", "n", lambda n: n, lambda n: n, _nothing),
    # A pass over an (m, n) matrix against its memory order; a matrix (m, n) put together from two.
    _kernel(
        "transpose",
        "mn",
        lambda m, n: m * n,
        lambda m, n: 2 * m * n,
        lambda m, n: m * n,
        row=lambda m, n: m,
        column=lambda m, n: n,
    ),
    _kernel(
        "join",
        "mn",
        lambda m, n: m * n,
        lambda m, n: 2 * m * n,
        lambda m, n: m * n,
        row=lambda m, n: m,
        column=lambda m, n: n,
    ),
    _kernel("diagonal", "n", _nothing, lambda n: n**2 + n, lambda n: n**2),
    # One iteration of conjugate gradients on a dense matrix with m right-hand sides at once. The
    # product that checks the true residual at the end counts as one more.
    _kernel(
        "cg_iteration",
        "nm",
        lambda n, m: 2 * n**2 * m + 10 * n * m,
        lambda n, m: n**2 + 6 * n * m,
        _nothing,
        many=_many,
        rhs=_rhs,
    ),
    # diag(d) + U U' with U (n, k): factorisation, a solve, the diagonal of the inverse.
    _kernel(
        "low_rank_factor",
        "nk",
        lambda n, k: n * k**2 + k**3 / 3,
        lambda n, k: 2 * n * k + 2 * k**2,
        lambda n, k: n * k,
        panel=lambda n, k: n * k,
        length=lambda n, k: n,
        column=lambda n, k: k,
    ),
    _kernel(
        "low_rank_solve",
        "nkm",
        lambda n, k, m: 4 * n * k * m,
        lambda n, k, m: 2 * n * k + 3 * n * m + k**2,
        lambda n, k, m: n * m,
        length=lambda n, k, m: n,
        rhs=lambda n, k, m: n * m,
        inner=lambda n, k, m: k**2 * m,
        short=lambda n, k, m: k * m,
        pairs=lambda n, k, m: n * _lesser(k, m),
        # Several right-hand sides are products of matrices, whose left one is packed.
        many=lambda n, k, m: m > 1,
        packed=lambda n, k, m: n * k * (m > 1),
    ),
    _kernel(
        "low_rank_diagonal",
        "nk",
        lambda n, k: n * k**2,
        lambda n, k: 2 * n * k + k**2 + n,
        lambda n, k: n * k,
        panel=lambda n, k: n * k,
        length=lambda n, k: n,
    ),
    # A symmetric band of b diagonals beside the main one: L D L', a solve, the inverse on the band. Each row
    # waits for the one before it.
    _kernel(
        "band_factor",
        "nb",
        lambda n, b: n * (b**2 + 2 * b),
        lambda n, b: 3 * n * (b + 1),
        lambda n, b: n * (b + 1),
        like=_OWN_LOOPS,
        panel=lambda n, b: n * b,
        length=lambda n, b: n,
    ),
    _kernel(
        "band_solve",
        "nbm",
        lambda n, b, m: 4 * n * b * m,
        lambda n, b, m: n * (b + 1) + 2 * n * m,
        lambda n, b, m: n * m,
        like=_OWN_LOOPS,
        panel=lambda n, b, m: n * b,
        length=lambda n, b, m: n,
        rhs=lambda n, b, m: n * m,
    ),
    _kernel(
        "band_inverse",
        "nb",
        lambda n, b: 2 * n * b**2,
        lambda n, b: 3 * n * (b + 1),
        lambda n, b: n * (b + 1),
        like=_OWN_LOOPS,
        panel=lambda n, b: n * b,
        length=lambda n, b: n,
    ),
    # A sparse symmetric matrix, by the root mean square b of the entries in a column of its factor: the
    # factor, a solve, the inverse on the pattern.
    _kernel(
        "sparse_factor",
        "nb",
        lambda n, b: n * (b**2 + 2 * b),
        lambda n, b: 3 * n * (b + 1),
        lambda n, b: n * (b + 1),
        like=_OWN_LOOPS,
        panel=lambda n, b: n * b,
        length=lambda n, b: n,
    ),
    _kernel(
        "sparse_solve",
        "nbm",
        lambda n, b, m: 4 * n * b * m,
        lambda n, b, m: n * (b + 1) + 2 * n * m,
        lambda n, b, m: n * m,
        like=_OWN_LOOPS,
        panel=lambda n, b, m: n * b,
        length=lambda n, b, m: n,
        rhs=lambda n, b, m: n * m,
    ),
    _kernel(
        "sparse_inverse",
        "nb",
        lambda n, b: 2 * n * b**2,
        lambda n, b: 3 * n * (b + 1),
        lambda n, b: n * (b + 1),
        like=_OWN_LOOPS,
        panel=lambda n, b: n * b,
        length=lambda n, b: n,
    ),
    # Points on a line with k states: a factor, a solve, the factor differentiated.
    _kernel(
        "line_factor",
        "nk",
        lambda n, k: n * (4 * k**2 + 4 * k),
        lambda n, k: n * (2 * k + 4),
        lambda n, k: n * k,
        panel=lambda n, k: n * k,
        length=lambda n, k: n,
    ),
    _kernel(
        "line_solve",
        "nkm",
        lambda n, k, m: 8 * n * k * m,
        lambda n, k, m: n * (2 * k + 2) + 2 * n * m,
        lambda n, k, m: n * m,
        panel=lambda n, k, m: n * k,
        length=lambda n, k, m: n,
        rhs=lambda n, k, m: n * m,
    ),
    _kernel(
        "line_inverse",
        "nk",
        lambda n, k: 12 * n * k**2,
        lambda n, k: 3 * n * k**2,
        lambda n, k: n * k**2,
        panel=lambda n, k: n * k,
        length=lambda n, k: n,
    ),
    # The first column of the inverse of a Toeplitz matrix by Schur's recursion, a product with it by fast
    # Fourier transforms.
    _kernel(
        "toeplitz_factor",
        "n",
        lambda n: 8 * n**2,
        lambda n: 3 * n**1.5,
        lambda n: 2 * n**1.5,
        length=lambda n: n,
    ),
    _kernel(
        "toeplitz_product",
        "nm",
        lambda n, m: 20 * n * (m + 1) * np.log2(2 * n + 2),
        lambda n, m: 10 * n * (m + 1),
        lambda n, m: 2 * n * m,
        length=lambda n, m: n,
        rhs=lambda n, m: n * m,
    ),
)
"""Every kernel that can be priced. `call` and `node` are fixed costs; the rest exclude `call`."""

KERNEL_BY_NAME: dict[str, Kernel] = {kernel.name: kernel for kernel in KERNELS}
