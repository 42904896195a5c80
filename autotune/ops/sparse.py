"""Symmetric sparse matrices of a constant pattern (see `core_sparse`).

A matrix is given by ``data`` (e,), its entries in the lower triangle, and constants of its `Pattern`: a
``plan``, or ``rows`` and ``columns`` (e,). A factor is the first output of `SparseFactor`.
"""

from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply
from pytensor.tensor.basic import as_tensor_variable
from pytensor.tensor.type import tensor

from autotune.ops._base import SPARSE, Compiled, LinalgOp, as_real, ensure_numba_dispatch, merge_lengths
from autotune.ops.core_sparse import check_entries, check_factor, check_places, check_plan
from autotune.ops.shapes import check_lengths, check_same_shape
from cost_models import KernelCall, call

core_sparse = Compiled("core_sparse", SPARSE)


class _SparseOp(LinalgOp):
    family = SPARSE
    __props__: tuple[str, ...] = ()

    def made(self, ndims, *values):
        """Variables of one dtype, and those of integers after them."""
        ensure_numba_dispatch(self.family)
        count = len(ndims)
        return [*as_real(self, ndims, *values[:count]), *map(as_tensor_variable, values[count:])]


class SparseFactor(_SparseOp):
    """``(factor, negative, log|det|)``: how many pivots are negative; -1 where there is no factor."""

    def make_node(self, data, plan):
        inputs = self.made((1,), data, plan)
        dtype = inputs[0].type.dtype
        outputs = [
            tensor("factor", shape=(None,), dtype=dtype),
            tensor("negative", shape=(), dtype="int64"),
            tensor("logabsdet", shape=(), dtype=dtype),
        ]
        return Apply(self, inputs, outputs)

    def perform(self, node, inputs, outputs):
        check_plan(inputs[1])
        check_entries(*inputs)
        found = core_sparse.factor(*inputs)
        for out, value, variable in zip(outputs, found, node.outputs, strict=True):
            out[0] = variable.type.filter(value, allow_downcast=True)


class SparseSolve(_SparseOp):
    """``A^-1 B`` (n, m) from a factor and B (n, m)."""

    def make_node(self, L, B, plan):
        inputs = self.made((1, 2), L, B, plan)
        return Apply(self, inputs, [inputs[1].type()])

    def infer_shape(self, node, shapes):
        return [shapes[1]]

    def perform(self, node, inputs, outputs):
        L, B, plan = inputs
        check_plan(plan)
        check_factor(L, plan)
        check_lengths(plan[0], B.shape[0])
        outputs[0][0] = core_sparse.solve(L, B, plan)


class SparseLogdetPullback(_SparseOp):
    """``d log|det A| / d data`` from a factor: entries of the inverse on the pattern."""

    def make_node(self, L, plan):
        inputs = self.made((1,), L, plan)
        return Apply(self, inputs, [tensor(shape=(None,), dtype=inputs[0].type.dtype)])

    def perform(self, node, inputs, outputs):
        check_plan(inputs[1])
        check_factor(*inputs)
        outputs[0][0] = core_sparse.logdet_pullback(*inputs)


class SparseDot(_SparseOp):
    """``A X`` (n, m) of a symmetric matrix."""

    def make_node(self, data, X, rows, columns):
        inputs = self.made((1, 2), data, X, rows, columns)
        merge_lengths(self, inputs[0].type.shape[0], *(i.type.shape[0] for i in inputs[2:]))
        return Apply(self, inputs, [inputs[1].type()])

    def infer_shape(self, node, shapes):
        return [shapes[1]]

    def perform(self, node, inputs, outputs):
        data, X, rows, columns = inputs
        check_lengths(data.size, rows.size)
        check_places(rows, columns, X.shape[0])
        outputs[0][0] = core_sparse.dot(data, X, rows, columns)

    def kernels(self, entries, m) -> list[KernelCall]:
        return product_kernels(entries, m)

    def pullback(self, inputs, outputs, output_grads):
        [data, X, *places], [Y_bar] = inputs, output_grads
        nothing = [disconnected_type() for _ in places]
        return [SparseOuter()(Y_bar, X, *places), SparseDot()(data, Y_bar, *places), *nothing]

    def connection_pattern(self, node):
        return [[True], [True], [False], [False]]


class SparseOuter(_SparseOp):
    """The pullback onto the entries (e,) of the matrix cotangent ``left right'``, both (n, m)."""

    def make_node(self, left, right, rows, columns):
        inputs = self.made((2, 2), left, right, rows, columns)
        for axis in (0, 1):
            merge_lengths(self, *(i.type.shape[axis] for i in inputs[:2]))
        entries = merge_lengths(self, *(i.type.shape[0] for i in inputs[2:]))
        return Apply(self, inputs, [tensor(shape=(entries,), dtype=inputs[0].type.dtype)])

    def infer_shape(self, node, shapes):
        return [shapes[2]]

    def perform(self, node, inputs, outputs):
        left, right, rows, columns = inputs
        check_same_shape(left, right)
        check_places(rows, columns, left.shape[0])
        outputs[0][0] = core_sparse.outer(*inputs)

    def kernels(self, entries, m) -> list[KernelCall]:
        return product_kernels(entries, m)

    def pullback(self, inputs, outputs, output_grads):
        [left, right, *places], [bar] = inputs, output_grads
        nothing = [disconnected_type() for _ in places]
        return [SparseDot()(bar, right, *places), SparseDot()(bar, left, *places), *nothing]

    def connection_pattern(self, node):
        return [[True], [True], [False], [False]]


def product_kernels(entries, m) -> list[KernelCall]:
    """Two numbers read and two written for each entry and column, in no order."""
    return [call("stream", n=entries * m, count=4)]
