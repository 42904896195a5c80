"""Iterative solves that check themselves."""

from pytensor.graph.basic import Apply
from pytensor.tensor.basic import as_tensor_variable, cast
from pytensor.tensor.type import tensor

from autotune.ops import core_cg
from autotune.ops._base import LinalgOp, as_real, check_ndims, ensure_numba_dispatch, merge_lengths


class BlockCG(LinalgOp):
    """``(A^-1 B, iterations)`` by conjugate gradients, for symmetric positive definite ``A`` (n, n) and
    ``B`` (n, m).

    2 n^2 m flops an iteration. Inputs: A, B, ``rtol`` (scalar), ``max_iterations`` (integer scalar). On
    return every column has a true residual ``|b - A x| <= rtol |b|``. If that takes more than
    ``max_iterations`` products, or A turns out not to be positive definite, all columns are solved by
    Cholesky (NaN where that fails, as in PyTensor), and ``iterations`` is ``-1 - used``. Source: Hestenes &
    Stiefel (1952).
    """

    __props__ = ()

    def make_node(self, A, B, rtol, max_iterations):
        ensure_numba_dispatch()
        A, B = as_real(self, (2, 2), A, B)
        rtol, max_iterations = as_tensor_variable(rtol), as_tensor_variable(max_iterations)
        check_ndims(self, (0, 0), [rtol, max_iterations])
        if max_iterations.type.numpy_dtype.kind not in "iu":
            raise TypeError(
                f"{self} got max_iterations of dtype {max_iterations.type.dtype}. It must be an integer."
            )
        rtol, max_iterations = cast(rtol, "float64"), cast(max_iterations, "int64")
        n = merge_lengths(self, *A.type.shape, B.type.shape[0])
        outputs = [
            tensor("X", shape=(n, B.type.shape[1]), dtype=B.type.dtype),
            tensor("iterations", shape=(), dtype="int64"),
        ]
        return Apply(self, [A, B, rtol, max_iterations], outputs)

    def infer_shape(self, node, shapes):
        return [shapes[1], ()]

    def perform(self, node, inputs, outputs):
        outputs[0][0], outputs[1][0] = core_cg.block_cg_arrays(*inputs)
