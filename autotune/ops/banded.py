"""Matrices whose entries lie on a few diagonals, stored by diagonals (see `core_banded`).

A factor is the tuple of the first three outputs of `BandedFactor`. All work is O(n) for a fixed number of
diagonals, in time and memory.
"""

from typing import Any

from pytensor.graph.basic import Apply
from pytensor.tensor.basic import as_tensor_variable
from pytensor.tensor.exceptions import ShapeError
from pytensor.tensor.type import tensor

from autotune.ops._base import BANDED, Compiled, LinalgOp, as_real, ensure_numba_dispatch, merge_lengths
from autotune.ops.shapes import check_band, check_band_factor, check_lengths, check_same_shape
from cost_models import KernelCall, call

core_banded = Compiled("core_banded", BANDED)

LU_SHARE = 2.0
"""Time of LU by partial pivoting, of that of a symmetric factor whose band is half as wide as U and L."""


class _BandedOp(LinalgOp):
    family = BANDED
    __props__: tuple[str, ...] = ("lower", "upper", "mirrored")

    def __init__(self, *, lower: int, upper: int, mirrored: bool):
        """Below zero: as many diagonals as the array of a mirrored band has."""
        self.lower, self.upper, self.mirrored = lower, upper, mirrored

    @property
    def band(self) -> dict[str, Any]:
        return {"lower": self.lower, "upper": self.upper, "mirrored": self.mirrored}

    @property
    def rows(self) -> int:
        """Below zero: any number."""
        if self.lower < 0:
            return -1
        return self.lower + 1 if self.mirrored else self.lower + self.upper + 1

    @property
    def static_rows(self) -> int | None:
        return None if self.lower < 0 else self.rows


class BandedFactor(_BandedOp):
    """``(F, M, pivots, sign, logabsdet)`` of a band ``ab`` (rows, n).

    ``L D L'`` where the band is ``mirrored``, ``definite`` says that it is worth the try, and it exists with
    a positive D; else LU by partial pivoting, or NaN if it is ``checked``.
    """

    __props__ = ("lower", "upper", "mirrored", "definite", "checked")

    def __init__(self, *, definite: bool, checked: bool, **band):
        super().__init__(**band)
        self.definite, self.checked = definite, checked

    def make_node(self, ab):
        ensure_numba_dispatch(self.family)
        [ab] = as_real(self, (2,), ab)
        merge_lengths(self, ab.type.shape[0], self.static_rows)
        dtype, n = ab.type.dtype, ab.type.shape[1]
        outputs = [
            tensor("F", shape=(n, None), dtype=dtype),
            tensor("M", shape=(None, None), dtype=dtype),
            tensor("pivots", shape=(None,), dtype="int64"),
            tensor("sign", shape=(), dtype=dtype),
            tensor("logabsdet", shape=(), dtype=dtype),
        ]
        return Apply(self, [ab], outputs)

    def infer_shape(self, node, shapes):
        [(rows, n)] = shapes
        if self.mirrored and self.definite:
            if not self.checked:
                raise ShapeError("Which of two factors it is, values tell.")
            return [(n, rows), (0, 0), (0,), (), ()]
        lower, upper = (rows - 1, rows - 1) if self.lower < 0 else (self.lower, self.upper)
        return [(n, 2 * lower + upper + 1), (n, lower), (n,), (), ()]

    def perform(self, node, inputs, outputs):
        check_band(inputs[0], self.rows)
        found = core_banded.factor(
            inputs[0], self.lower, self.upper, self.mirrored, self.definite, self.checked
        )
        for out, value, variable in zip(outputs, found, node.outputs, strict=True):
            out[0] = variable.type.filter(value, allow_downcast=True)

    def kernels(self, n) -> list[KernelCall]:
        return kernels_of("band_factor", n, self.lower, self.upper, definite=self.mirrored and self.definite)


def kernels_of(kernel: str, n, lower: int, upper: int, *, definite: bool, **sizes) -> list[KernelCall]:
    """One on the band of a symmetric matrix that may be definite, or on the wider one that LU fills."""
    if definite:
        return [call(kernel, n=n, b=lower, **sizes)]
    return [call(kernel, n=n, b=(2 * lower + upper + 1) // 2, count=LU_SHARE, **sizes)]


def product_kernels(n, diagonals: int, m) -> list[KernelCall]:
    """A pass over the right-hand sides for each diagonal."""
    return [call("stream", n=n * m, count=diagonals)]


class BandedSolve(_BandedOp):
    """``A^-1 B`` (n, m), or ``A^-T B``, from a factor ``(F, M, pivots)`` and B (n, m)."""

    __props__ = ("lower", "upper", "mirrored", "transposed")

    def __init__(self, *, transposed: bool = False, **band):
        super().__init__(**band)
        self.transposed = transposed and not self.mirrored

    def make_node(self, F, M, pivots, B):
        ensure_numba_dispatch(self.family)
        F, M, B = as_real(self, (2, 2, 2), F, M, B)
        n = merge_lengths(self, F.type.shape[0], B.type.shape[0])
        out = tensor(shape=(n, B.type.shape[1]), dtype=B.type.dtype)
        return Apply(self, [F, M, as_tensor_variable(pivots), B], [out])

    def infer_shape(self, node, shapes):
        return [shapes[3]]

    def kernels(self, n, m) -> list[KernelCall]:
        return kernels_of("band_solve", n, self.lower, self.upper, definite=self.mirrored, m=m)

    def perform(self, node, inputs, outputs):
        F, M, pivots, B = inputs
        check_band_factor(F, M, pivots)
        check_lengths(F.shape[0], B.shape[0])
        outputs[0][0] = core_banded.solve(F, M, pivots, B, self.transposed)


class BandedLogdetPullback(_BandedOp):
    """``d log|det A| / d ab`` (rows, n) from a factor ``(F, M, pivots)``: entries of the inverse."""

    def make_node(self, F, M, pivots):
        ensure_numba_dispatch(self.family)
        F, M = as_real(self, (2, 2), F, M)
        out = tensor(shape=(self.static_rows, F.type.shape[0]), dtype=F.type.dtype)
        return Apply(self, [F, M, as_tensor_variable(pivots)], [out])

    def infer_shape(self, node, shapes):
        return [(shapes[0][1] if self.lower < 0 else self.rows, shapes[0][0])]

    def kernels(self, n) -> list[KernelCall]:
        return kernels_of("band_inverse", n, self.lower, self.upper, definite=self.mirrored)

    def perform(self, node, inputs, outputs):
        check_band_factor(*inputs)
        outputs[0][0] = core_banded.logdet_pullback(*inputs, self.lower, self.upper, self.mirrored)


class BandedDot(_BandedOp):
    """``A X`` (n, m) of a band ``ab`` (rows, n), or ``A' X`` if it is ``transposed``."""

    __props__ = ("lower", "upper", "mirrored", "transposed")
    gufunc_signature = "(k,n),(n,m)->(n,m)"

    def __init__(self, *, transposed: bool = False, **band):
        super().__init__(**band)
        self.transposed = transposed and not self.mirrored

    def make_node(self, ab, X):
        ensure_numba_dispatch(self.family)
        ab, X = as_real(self, (2, 2), ab, X)
        merge_lengths(self, ab.type.shape[0], self.static_rows)
        n = merge_lengths(self, ab.type.shape[1], X.type.shape[0])
        return Apply(self, [ab, X], [tensor(shape=(n, X.type.shape[1]), dtype=X.type.dtype)])

    def infer_shape(self, node, shapes):
        return [shapes[1]]

    def perform(self, node, inputs, outputs):
        ab, X = inputs
        check_band(ab, self.rows)
        check_lengths(ab.shape[1], X.shape[0])
        outputs[0][0] = core_banded.dot(ab, self.lower, self.upper, self.mirrored, X, self.transposed)

    def kernels(self, n, m) -> list[KernelCall]:
        return product_kernels(n, self.lower + self.upper + 1, m)

    def pullback(self, inputs, outputs, output_grads):
        [ab, X], [Y_bar] = inputs, output_grads
        left, right = (X, Y_bar) if self.transposed else (Y_bar, X)
        X_bar = BandedDot(transposed=not self.transposed, **self.band)(ab, Y_bar)
        return [BandedOuter(**self.band)(left, right), X_bar]


class BandedOuter(_BandedOp):
    """The pullback onto ``ab`` (rows, n) of the matrix cotangent ``left right'``, both (n, m)."""

    gufunc_signature = "(n,m),(n,m)->(k,n)"

    def make_node(self, left, right):
        ensure_numba_dispatch(self.family)
        left, right = as_real(self, (2, 2), left, right)
        n = merge_lengths(self, left.type.shape[0], right.type.shape[0])
        merge_lengths(self, left.type.shape[1], right.type.shape[1])
        return Apply(self, [left, right], [tensor(shape=(self.static_rows, n), dtype=left.type.dtype)])

    def infer_shape(self, node, shapes):
        return [(self.rows, shapes[0][0])]

    def perform(self, node, inputs, outputs):
        left, right = inputs
        check_same_shape(left, right)
        outputs[0][0] = core_banded.outer(left, right, self.lower, self.upper, self.mirrored)

    def kernels(self, n, m) -> list[KernelCall]:
        return product_kernels(n, self.lower + self.upper + 1, m)

    def pullback(self, inputs, outputs, output_grads):
        [left, right], [ab_bar] = inputs, output_grads
        return [BandedDot(**self.band)(ab_bar, right), BandedDot(transposed=True, **self.band)(ab_bar, left)]
