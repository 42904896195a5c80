"""Factor, solve and inverse of a matrix of which nothing is known: Cholesky if it turns out to be positive
definite, else LU."""

import numpy as np
from pytensor.graph.basic import Apply
from pytensor.tensor.basic import as_tensor_variable
from pytensor.tensor.type import tensor

from autotune.ops._base import Late, LinalgOp, check_ndims, ensure_numba_dispatch, merge_lengths, real_dtype
from autotune.ops.inverse import CholeskyInverse, LUInverse
from cost_models import KernelCall, call

core = Late("core_cholesky_or_lu")


def _factor_inputs(op, F, pivots, is_cholesky, *rhs):
    """Checked inputs of an Op on a finished factor, and the static order of the matrix."""
    ensure_numba_dispatch()
    inputs = [as_tensor_variable(x) for x in (F, pivots, is_cholesky, *rhs)]
    check_ndims(op, (2, 1, 0, 2)[: len(inputs)], inputs)
    F, pivots, is_cholesky = inputs[:3]
    for name, variable in (("pivots", pivots), ("is_cholesky", is_cholesky)):
        if variable.type.numpy_dtype.kind not in "iu":
            raise TypeError(f"{op} got {name} of dtype {variable.type.dtype}. It must be of integers.")
    return inputs, merge_lengths(op, *F.type.shape, *pivots.type.shape)


class CholeskyOrLU(LinalgOp):
    """``A = L L'`` (potrf, n^3/3 flops) if A (n, n) is positive definite, else ``P A = L U`` (getrf, 2/3
    n^3).

    Outputs F (n, n), pivots (n,) int32 counted from 0, and is_cholesky, 1 or 0. Cholesky: L is the lower
    triangle of F, what stands above it means nothing, pivots are 0..n-1. LU: getrf's packed factors, those of
    a singular matrix too, whose determinant is then 0. NaN or infinity in A go to LU.
    Use it as ``Blockwise(CholeskyOrLU())``. ``overwrite_a`` is set by PyTensor's in-place rewrites only.
    Source: Higham (2002), Accuracy and Stability of Numerical Algorithms, chapters 9 and 10.
    """

    __props__ = ("overwrite_a",)
    gufunc_signature = "(m,m)->(m,m),(m),()"

    def __init__(self, *, overwrite_a: bool = False):
        self.overwrite_a = overwrite_a
        if overwrite_a:
            self.destroy_map = {0: [0]}

    def make_node(self, A):
        ensure_numba_dispatch()
        A = as_tensor_variable(A)
        check_ndims(self, (2,), [A])
        n = merge_lengths(self, *A.type.shape)
        F = tensor("F", shape=(n, n), dtype=real_dtype(self, A))
        pivots = tensor("pivots", shape=(n,), dtype="int32")
        return Apply(self, [A], [F, pivots, tensor("is_cholesky", shape=(), dtype="int8")])

    def infer_shape(self, node, shapes):
        [shape] = shapes
        return [shape, shape[:1], ()]

    def perform(self, node, inputs, outputs):
        # Not a cast in make_node: Blockwise hands its own, uncast inputs to the core function.
        A = inputs[0].astype(node.outputs[0].type.dtype, copy=False)
        F, pivots, is_cholesky = core.factor(A, self.overwrite_a)
        outputs[0][0], outputs[1][0], outputs[2][0] = F, pivots, node.outputs[2].type.filter(is_cholesky)

    def inplace_on_inputs(self, allowed_inplace_inputs: list[int]) -> "CholeskyOrLU":
        return type(self)(overwrite_a=True) if 0 in allowed_inplace_inputs else self

    @staticmethod
    def kernels(n, *, definite: bool, batched: bool = False) -> list[KernelCall]:
        """The factor, and the look whether the matrix is symmetric, which ends soon if it is not."""
        if batched:
            return [call("batch_cholesky" if definite else "batch_lu", n=n)]
        return [call("potrf" if definite else "getrf", n=n), call("stream", n=n * n, count=2)]


class ExchangeSign(LinalgOp):
    """The determinant, 1 or -1, of the row exchanges (n,) of an LU factorisation, counted from 0.

    In PyTensor's own Ops it takes the numbers 0..n-1, a constant that makes every n another function to
    compile. Use it as ``Blockwise(ExchangeSign())``.
    """

    __props__ = ()
    gufunc_signature = "(m)->()"

    def make_node(self, pivots):
        ensure_numba_dispatch()
        pivots = as_tensor_variable(pivots)
        check_ndims(self, (1,), [pivots])
        if pivots.type.numpy_dtype.kind not in "iu":
            raise TypeError(f"{self} got pivots of dtype {pivots.type.dtype}. They must be integers.")
        return Apply(self, [pivots], [tensor("sign", shape=(), dtype="int8")])

    def infer_shape(self, node, shapes):
        return [()]

    def perform(self, node, inputs, outputs):
        outputs[0][0] = core.exchange_sign(inputs[0])

    def inplace_on_inputs(self, allowed_inplace_inputs: list[int]) -> "ExchangeSign":
        return self


class FactorSlogdet(LinalgOp):
    """Sign and log of the absolute determinant from the outputs of `CholeskyOrLU`; 0 and -inf if it is 0.

    Use it as ``Blockwise(FactorSlogdet())``.
    """

    __props__ = ()
    gufunc_signature = "(m,m),(m),()->(),()"

    def make_node(self, F, pivots, is_cholesky):
        inputs, _ = _factor_inputs(self, F, pivots, is_cholesky)
        dtype = real_dtype(self, inputs[0])
        return Apply(self, inputs, [tensor(name, shape=(), dtype=dtype) for name in ("sign", "logabsdet")])

    def infer_shape(self, node, shapes):
        return [(), ()]

    def perform(self, node, inputs, outputs):
        F, pivots, is_cholesky = inputs
        core.check_pivots(F, pivots, 0)
        diagonal = np.diagonal(F).astype(np.float64)
        exchanges = 0 if is_cholesky else np.count_nonzero(pivots != np.arange(pivots.size))
        with np.errstate(divide="ignore"):
            logabsdet = (1 + int(is_cholesky)) * np.log(np.abs(diagonal)).sum()
        found = (-1) ** exchanges * np.prod(np.sign(diagonal)), logabsdet
        for output, variable, value in zip(outputs, node.outputs, found, strict=True):
            output[0] = np.asarray(value, variable.type.dtype)

    def inplace_on_inputs(self, allowed_inplace_inputs: list[int]) -> "FactorSlogdet":
        return self

    @staticmethod
    def kernels(n) -> list[KernelCall]:
        """As many logarithms as products of pivots need: one, mostly."""
        return [call("reduce", n=n)]


class FactorOrNaN(LinalgOp):
    """The lower triangle of the factor ``L`` (n, n) of ``A = L L'``, which has its own from A; NaN if there
    is none.

    Takes A, and F and is_cholesky of its `CholeskyOrLU`: F itself where that holds L, with what else stands
    in it, and a factor of its own only where it had to leave Cholesky's way. Use it as
    ``Blockwise(FactorOrNaN())``.
    """

    __props__ = ()
    gufunc_signature = "(m,m),(m,m),()->(m,m)"
    view_map = {0: [1]}  # noqa: RUF012 (as PyTensor's Ops)

    def make_node(self, A, F, is_cholesky):
        ensure_numba_dispatch()
        inputs = [as_tensor_variable(x) for x in (A, F, is_cholesky)]
        check_ndims(self, (2, 2, 0), inputs)
        A, F, is_cholesky = inputs
        if is_cholesky.type.numpy_dtype.kind not in "iu":
            raise TypeError(
                f"{self} got is_cholesky of dtype {is_cholesky.type.dtype}. It must be an integer."
            )
        n = merge_lengths(self, *A.type.shape, *F.type.shape)
        return Apply(self, inputs, [tensor(shape=(n, n), dtype=real_dtype(self, A, F))])

    def infer_shape(self, node, shapes):
        return [shapes[0]]

    def perform(self, node, inputs, outputs):
        dtype = node.outputs[0].type.dtype
        A, F = (x.astype(dtype, copy=False) for x in inputs[:2])
        outputs[0][0] = core.lower_factor(A, F, bool(inputs[2]))

    def inplace_on_inputs(self, allowed_inplace_inputs: list[int]) -> "FactorOrNaN":
        return self


class CholeskyOrLUSolve(LinalgOp):
    """``A^-1 B`` (n, m), or ``A'^-1 B`` if ``transposed``, from the outputs of `CholeskyOrLU` and B.

    By potrs or getrs, 2 n^2 m flops. NaN everywhere for a singular matrix, as PyTensor's solve gives.
    Use it as ``Blockwise(CholeskyOrLUSolve())``.
    """

    __props__ = ("transposed",)
    gufunc_signature = "(m,m),(m),(),(m,n)->(m,n)"

    def __init__(self, *, transposed: bool = False):
        self.transposed = transposed

    def make_node(self, F, pivots, is_cholesky, B):
        inputs, n = _factor_inputs(self, F, pivots, is_cholesky, B)
        F, B = inputs[0], inputs[-1]
        n = merge_lengths(self, n, B.type.shape[0])
        return Apply(self, inputs, [tensor(shape=(n, B.type.shape[1]), dtype=real_dtype(self, F, B))])

    def infer_shape(self, node, shapes):
        return [shapes[-1]]

    def perform(self, node, inputs, outputs):
        dtype = node.outputs[0].type.dtype
        F, pivots, is_cholesky, B = inputs
        F, B = F.astype(dtype, copy=False), B.astype(dtype, copy=False)
        outputs[0][0] = core.solve(F, pivots, bool(is_cholesky), B, self.transposed)

    def inplace_on_inputs(self, allowed_inplace_inputs: list[int]) -> "CholeskyOrLUSolve":
        return self

    @staticmethod
    def kernels(n, m, *, definite: bool, batched: bool = False) -> list[KernelCall]:
        return [call("batch_solve" if batched else "potrs" if definite else "getrs", n=n, m=m)]


class CholeskyOrLUInverse(LinalgOp):
    """``A^-1`` (n, n) from the outputs of `CholeskyOrLU`: potri (2/3 n^3 flops) or getri (4/3 n^3).

    Exactly symmetric from Cholesky; NaN everywhere for a singular matrix. ``overwrite_f`` is set by
    PyTensor's in-place rewrites only. Use it as ``Blockwise(CholeskyOrLUInverse())``.
    Source: Higham (2002), sections 14.2 and 14.3.
    """

    __props__ = ("overwrite_f",)
    gufunc_signature = "(m,m),(m),()->(m,m)"

    def __init__(self, *, overwrite_f: bool = False):
        self.overwrite_f = overwrite_f
        if overwrite_f:
            self.destroy_map = {0: [0]}

    def make_node(self, F, pivots, is_cholesky):
        inputs, n = _factor_inputs(self, F, pivots, is_cholesky)
        return Apply(self, inputs, [tensor(shape=(n, n), dtype=real_dtype(self, inputs[0]))])

    def infer_shape(self, node, shapes):
        return [shapes[0]]

    def perform(self, node, inputs, outputs):
        F, pivots, is_cholesky = inputs
        F = F.astype(node.outputs[0].type.dtype, copy=False)
        outputs[0][0] = core.inverse(F, pivots, bool(is_cholesky), self.overwrite_f)

    def inplace_on_inputs(self, allowed_inplace_inputs: list[int]) -> "CholeskyOrLUInverse":
        return type(self)(overwrite_f=True) if 0 in allowed_inplace_inputs else self

    @staticmethod
    def kernels(n, *, definite: bool, batched: bool = False) -> list[KernelCall]:
        return (CholeskyInverse if definite else LUInverse).kernels(n, batched=batched)
