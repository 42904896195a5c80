"""Explicit inverses that reuse a factorisation the graph already has, instead of starting again from the
matrix."""

from pytensor.graph.basic import Apply
from pytensor.tensor.basic import as_tensor_variable
from pytensor.tensor.type import tensor

from autotune.ops._base import Late, LinalgOp, check_ndims, ensure_numba_dispatch, merge_lengths, real_dtype
from cost_models import KernelCall, call

core_inverse = Late("core_inverse")

DEFINITE = 0.5
"""Operations of an inverse from a Cholesky factor, as a share of those from an LU factor."""


class CholeskyInverse(LinalgOp):
    """``(L L')^-1`` from the lower Cholesky factor ``L`` (n, n), by LAPACK potri (2/3 n^3 flops).

    Only the lower triangle is read. The result is exactly symmetric; a NaN or zero on the diagonal gives NaN.
    Use it as ``Blockwise(CholeskyInverse())``. ``overwrite_a`` is set by PyTensor's in-place rewrites only.
    Source: Higham (2002), Accuracy and Stability of Numerical Algorithms, section 14.2.
    """

    __props__ = ("overwrite_a",)
    gufunc_signature = "(m,m)->(m,m)"

    def __init__(self, *, overwrite_a: bool = False):
        self.overwrite_a = overwrite_a
        if overwrite_a:
            self.destroy_map = {0: [0]}

    def make_node(self, L):
        ensure_numba_dispatch()
        L = as_tensor_variable(L)
        check_ndims(self, (2,), [L])
        n = merge_lengths(self, *L.type.shape)
        return Apply(self, [L], [tensor(shape=(n, n), dtype=real_dtype(self, L))])

    def infer_shape(self, node, shapes):
        return [shapes[0]]

    def perform(self, node, inputs, outputs):
        # Not a cast in make_node: Blockwise hands its own, uncast inputs to the core function.
        L = inputs[0].astype(node.outputs[0].type.dtype, copy=False)
        outputs[0][0] = core_inverse.cholesky_inverse(L, self.overwrite_a)

    def inplace_on_inputs(self, allowed_inplace_inputs: list[int]) -> "CholeskyInverse":
        return type(self)(overwrite_a=True) if 0 in allowed_inplace_inputs else self

    @staticmethod
    def kernels(n, *, batched: bool = False) -> list[KernelCall]:
        return [call("batch_inverse", n=n, count=DEFINITE) if batched else call("potri", n=n)]


class CholeskySolveMany(LinalgOp):
    """``(L L')^-1 B`` from the lower Cholesky factor ``L`` (n, n), for B (n, m) with many columns.

    By a product with the inverse where ``m >= 2 n``, by potrs else, when the function runs; 2 n^2 m flops.

    Use it as ``Blockwise(CholeskySolveMany())``. Its forward error is that of potrs (Druinsky & Toledo 2012,
    "How accurate is inv(A)*b?"); the residual may be larger.
    """

    __props__ = ()
    gufunc_signature = "(m,m),(m,n)->(m,n)"

    def make_node(self, L, B):
        ensure_numba_dispatch()
        L, B = as_tensor_variable(L), as_tensor_variable(B)
        check_ndims(self, (2, 2), [L, B])
        n = merge_lengths(self, *L.type.shape, B.type.shape[0])
        return Apply(self, [L, B], [tensor(shape=(n, B.type.shape[1]), dtype=real_dtype(self, L, B))])

    def infer_shape(self, node, shapes):
        return [shapes[1]]

    def perform(self, node, inputs, outputs):
        L, B = (x.astype(node.outputs[0].type.dtype, copy=False) for x in inputs)
        outputs[0][0] = core_inverse.solve_many(L, B)

    def inplace_on_inputs(self, allowed_inplace_inputs: list[int]) -> "CholeskySolveMany":
        return self

    @staticmethod
    def kernels(n, m, *, batched: bool = False) -> list[KernelCall]:
        if batched:
            return [call("batch_solve", n=n, m=m)]
        return [call("potrs", n=n, m=m)]  # of many columns a bound: prices are of all sizes at once


def are_many(n: int | None, m: int | None) -> bool:
    """Whether m columns are known to be so many that the inverse pays."""
    return isinstance(n, int) and isinstance(m, int) and m >= core_inverse.MANY * n


class LUInverse(LinalgOp):
    """``A^-1`` from the packed LU factors (n, n) and 0-based pivots (n,) of ``A``, by LAPACK getri (4/3 n^3
    flops).

    Takes what PyTensor's ``LUFactor`` returns; the NaN that it returns for a singular matrix gives NaN here.
    Use it as ``Blockwise(LUInverse())``. Source: Higham (2002), section 14.3, method D.
    """

    __props__ = ()
    gufunc_signature = "(m,m),(m)->(m,m)"

    def make_node(self, LU, pivots):
        ensure_numba_dispatch()
        LU, pivots = as_tensor_variable(LU), as_tensor_variable(pivots)
        check_ndims(self, (2, 1), [LU, pivots])
        if pivots.type.numpy_dtype.kind not in "iu":
            raise TypeError(f"{self} got pivots of dtype {pivots.type.dtype}. They must be integers.")
        n = merge_lengths(self, *LU.type.shape, *pivots.type.shape)
        return Apply(self, [LU, pivots], [tensor(shape=(n, n), dtype=real_dtype(self, LU))])

    def infer_shape(self, node, shapes):
        return [shapes[0]]

    def perform(self, node, inputs, outputs):
        LU = inputs[0].astype(node.outputs[0].type.dtype, copy=False)
        outputs[0][0] = core_inverse.lu_inverse(LU, inputs[1])

    def inplace_on_inputs(self, allowed_inplace_inputs: list[int]) -> "LUInverse":
        return self

    @staticmethod
    def kernels(n, *, batched: bool = False) -> list[KernelCall]:
        return [call("batch_inverse" if batched else "getri", n=n)]
