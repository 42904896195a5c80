"""Symmetric Toeplitz matrices, and circulant ones, by their first column (`core_schur`, `core_toeplitz`).

What is asked of the inverse of a Toeplitz matrix follows from its own first column x (Gohberg & Semencul
1972), which `ToeplitzFactor` gives. All else is done by the fast Fourier transform.
"""

from pytensor.graph.basic import Apply
from pytensor.tensor.basic import as_tensor_variable, cast
from pytensor.tensor.type import tensor

from autotune.ops._base import (
    TOEPLITZ,
    Compiled,
    Late,
    LinalgOp,
    as_real,
    ensure_numba_dispatch,
    merge_lengths,
)
from autotune.ops.shapes import check_lengths, check_same_shape
from cost_models import KernelCall, call

core_schur = Compiled("core_schur", TOEPLITZ)
core_toeplitz = Late("core_toeplitz")

SOLVING = 6.0
"""A solve by transforms, one refinement with it, in products with the matrix."""
WITHOUT_ZEROS = 0.5
"""Transforms of a circulant matrix, of those of a Toeplitz matrix, which are twice as long."""


class _ToeplitzOp(LinalgOp):
    family = TOEPLITZ
    __props__: tuple[str, ...] = ()

    def made(self, ndims, *values):
        ensure_numba_dispatch(self.family)
        return as_real(self, ndims, *values)


class _Factor(_ToeplitzOp):
    """Of a first column: a vector of double precision, and numbers."""

    numbers: tuple[str, ...]

    def make_node(self, c):
        [c] = self.made((1,), c)
        scalars = [tensor(name, shape=(), dtype=c.type.dtype) for name in self.numbers]
        return Apply(self, [c], [tensor("x", shape=c.type.shape, dtype="float64"), *scalars])

    def infer_shape(self, node, shapes):
        return [shapes[0], *(() for _ in self.numbers)]

    def perform(self, node, inputs, outputs):
        for out, value, variable in zip(outputs, self.found(inputs[0]), node.outputs, strict=True):
            out[0] = variable.type.filter(value, allow_downcast=True)


class ToeplitzFactor(_Factor):
    """``(x, sign, log|det|)``, x the first column of the inverse; NaN where T is not positive definite."""

    numbers = ("sign", "logabsdet")

    def found(self, c):
        return core_schur.factor(c)

    def kernels(self, n) -> list[KernelCall]:
        return [call("toeplitz_factor", n=n)]


class CirculantFactor(_Factor):
    """``(d, sign, log|det|, smallest)``: the first column of the inverse and the least real part of an
    eigenvalue."""

    numbers = ("sign", "logabsdet", "smallest")

    def found(self, c):
        return core_toeplitz.circulant_factor(c)

    def kernels(self, n) -> list[KernelCall]:
        return [call("toeplitz_product", n=n, m=1, count=WITHOUT_ZEROS)]


class ToeplitzSolve(_ToeplitzOp):
    """``T^-1 B`` (n, m) from c, x of `ToeplitzFactor` and B (n, m)."""

    def make_node(self, c, x, B):
        c, B = self.made((1, 2), c, B)
        x = cast(as_tensor_variable(x), "float64")
        n = merge_lengths(self, c.type.shape[0], x.type.shape[0], B.type.shape[0])
        return Apply(self, [c, x, B], [tensor(shape=(n, B.type.shape[1]), dtype=B.type.dtype)])

    def infer_shape(self, node, shapes):
        return [shapes[2]]

    def perform(self, node, inputs, outputs):
        c, x, B = inputs
        check_lengths(c.size, x.size)
        check_lengths(c.size, B.shape[0])
        outputs[0][0] = core_toeplitz.solve(c, x, B)

    def kernels(self, n, m) -> list[KernelCall]:
        return [call("toeplitz_product", n=n, m=m, count=SOLVING)]


class _Product(_ToeplitzOp):
    """Of a matrix, by its first column, and right-hand sides (n, m)."""

    gufunc_signature = "(n),(n,m)->(n,m)"

    def make_node(self, c, X):
        c, X = self.made((1, 2), c, X)
        n = merge_lengths(self, c.type.shape[0], X.type.shape[0])
        return Apply(self, [c, X], [tensor(shape=(n, X.type.shape[1]), dtype=X.type.dtype)])

    def infer_shape(self, node, shapes):
        return [shapes[1]]

    def perform(self, node, inputs, outputs):
        c, X = inputs
        check_lengths(c.size, X.shape[0])
        outputs[0][0] = self.found(c, X)


class ToeplitzDot(_Product):
    """``T X`` (n, m)."""

    def found(self, c, X):
        return core_toeplitz.dot(c, X)

    def pullback(self, inputs, outputs, output_grads):
        [c, X], [Y_bar] = inputs, output_grads
        return [ToeplitzOuter()(Y_bar, X), ToeplitzDot()(c, Y_bar)]

    def kernels(self, n, m) -> list[KernelCall]:
        return [call("toeplitz_product", n=n, m=m)]


class CirculantDot(_Product):
    """``C X`` (n, m), or ``C' X`` if it is ``transposed``."""

    __props__ = ("transposed",)

    def __init__(self, *, transposed: bool = False):
        self.transposed = transposed

    def found(self, c, X):
        return core_toeplitz.circulant_dot(c, X, self.transposed)

    def pullback(self, inputs, outputs, output_grads):
        [c, X], [Y_bar] = inputs, output_grads
        left, right = (X, Y_bar) if self.transposed else (Y_bar, X)
        return [CirculantOuter()(left, right), CirculantDot(transposed=not self.transposed)(c, Y_bar)]

    def kernels(self, n, m) -> list[KernelCall]:
        return [call("toeplitz_product", n=n, m=m, count=WITHOUT_ZEROS)]


class CirculantSolve(_Product):
    """``C^-1 B`` (n, m), or ``C^-T B`` if it is ``transposed``."""

    __props__ = ("transposed",)

    def __init__(self, *, transposed: bool = False):
        self.transposed = transposed

    def found(self, c, B):
        return core_toeplitz.circulant_solve(c, B, self.transposed)

    def kernels(self, n, m) -> list[KernelCall]:
        return [call("toeplitz_product", n=n, m=m, count=WITHOUT_ZEROS)]


class _Outer(_ToeplitzOp):
    """The pullback onto the first column of the matrix cotangent ``left right'``, both (n, m)."""

    gufunc_signature = "(n,m),(n,m)->(n)"

    def make_node(self, left, right):
        left, right = self.made((2, 2), left, right)
        n = merge_lengths(self, left.type.shape[0], right.type.shape[0])
        merge_lengths(self, left.type.shape[1], right.type.shape[1])
        return Apply(self, [left, right], [tensor(shape=(n,), dtype=left.type.dtype)])

    def infer_shape(self, node, shapes):
        return [(shapes[0][0],)]

    def perform(self, node, inputs, outputs):
        check_same_shape(*inputs)
        outputs[0][0] = self.found(*inputs)


class ToeplitzOuter(_Outer):
    """Of a symmetric Toeplitz matrix."""

    def found(self, left, right):
        return core_toeplitz.outer(left, right)

    def pullback(self, inputs, outputs, output_grads):
        [left, right], [c_bar] = inputs, output_grads
        return [ToeplitzDot()(c_bar, right), ToeplitzDot()(c_bar, left)]

    def kernels(self, n, m) -> list[KernelCall]:
        return [call("toeplitz_product", n=n, m=m)]


class CirculantOuter(_Outer):
    """Of a circulant matrix."""

    def found(self, left, right):
        return core_toeplitz.circulant_outer(left, right)

    def pullback(self, inputs, outputs, output_grads):
        [left, right], [c_bar] = inputs, output_grads
        return [CirculantDot()(c_bar, right), CirculantDot(transposed=True)(c_bar, left)]

    def kernels(self, n, m) -> list[KernelCall]:
        return [call("toeplitz_product", n=n, m=m, count=WITHOUT_ZEROS)]
