"""``X X'``, of which matrices of ridge regression and linear kernels are made."""

from pytensor.graph.basic import Apply
from pytensor.tensor.basic import as_tensor_variable
from pytensor.tensor.type import tensor

from autotune.ops._base import Late, LinalgOp, check_ndims, ensure_numba_dispatch, real_dtype
from cost_models import KernelCall, call

core_gram = Late("core_gram")

SHARE = 0.6
"""Time of syrk, whose triangle is copied onto the other, as a share of a general product's."""
FEWEST = 16
"""Columns up to which the copying costs what is saved: measured, n = 30 to 1000."""


def pays(columns: int | None) -> bool:
    """Whether X may have so many columns that it is not known to be the slower way."""
    return columns is None or columns >= FEWEST


class Gram(LinalgOp):
    """``X X'`` (n, n) of X (n, p), by BLAS syrk: n^2 p flops, half of those of ``Dot``.

    The result is exactly symmetric. ``X'X`` is that of the view ``X.T``, which is not copied.
    """

    __props__ = ()

    def make_node(self, X):
        ensure_numba_dispatch()
        X = as_tensor_variable(X)
        check_ndims(self, (2,), [X])
        n = X.type.shape[0]
        return Apply(self, [X], [tensor(shape=(n, n), dtype=real_dtype(self, X))])

    def infer_shape(self, node, shapes):
        return [(shapes[0][0], shapes[0][0])]

    def perform(self, node, inputs, outputs):
        outputs[0][0] = core_gram.gram(inputs[0].astype(node.outputs[0].type.dtype, copy=False))

    @staticmethod
    def kernels(n, p) -> list[KernelCall]:
        return [call("gemm", m=n, n=n, k=p, count=SHARE)]
