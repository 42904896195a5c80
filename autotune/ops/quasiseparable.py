"""Covariances of sorted points on a line, of polynomials times exponentials (see `core_quasiseparable`).

A matrix is given by its diagonal ``d`` (n,), the distance ``steps`` (n,) of each point from the one before
it (the first 0), ``c`` (r,) and ``rates`` (b,), of b blocks: ``sizes`` (b,), how many of the c are of each,
and ``powers`` (b,), whether it is a power instead of an exponential, both integers. A factor is the first
three outputs of `QuasiseparableFactor`.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType, disconnected_type, pullback
from pytensor.graph.basic import Apply
from pytensor.tensor.basic import as_tensor_variable, cast
from pytensor.tensor.type import tensor

from autotune.ops._base import (
    QUASISEPARABLE,
    Compiled,
    LinalgOp,
    as_real,
    ensure_numba_dispatch,
    merge_lengths,
)
from autotune.ops.shapes import check_lengths, check_line_factor, check_on_line, check_same_shape
from cost_models import KernelCall, call

core_quasiseparable = Compiled("core_quasiseparable", QUASISEPARABLE)


def dense(d, steps, c, rates, blocks):
    """The matrix itself."""
    t = pt.cumsum(steps)
    r = pt.abs(t[:, None] - t[None, :])
    total, start = pt.zeros_like(r), 0
    for b, (size, power) in enumerate(blocks):
        decay = rates[b] ** r if power else pt.exp(-rates[b] * r)
        total = total + decay * sum(c[start + m] * r**m for m in range(size))
        start += size
    return pt.switch(pt.eye(d.shape[0], dtype="bool"), d[None, :], total).astype(d.type.dtype)


def sizes_and_powers(blocks):
    """Two constants, of which ``blocks`` has a pair for each block."""
    sizes, powers = zip(*blocks, strict=True)
    return pt.constant(np.array(sizes, dtype="int64")), pt.constant(np.array(powers, dtype="int64"))


class _QuasiseparableOp(LinalgOp):
    family = QUASISEPARABLE
    __props__: tuple[str, ...] = ()

    def made(self, ndims, *values):
        """Variables of one dtype, and those of integers after them."""
        ensure_numba_dispatch(self.family)
        count = len(ndims)
        return [*as_real(self, ndims, *values[:count]), *map(as_tensor_variable, values[count:])]


class QuasiseparableFactor(_QuasiseparableOp):
    """``(D, V, E, sign, log|det|)`` of ``K = L diag(D) L'``; all NaN where K is not positive definite."""

    def make_node(self, d, steps, c, rates, sizes, powers):
        inputs = self.made((1, 1, 1, 1), d, steps, c, rates, sizes, powers)
        dtype = inputs[0].type.dtype
        n = merge_lengths(self, inputs[0].type.shape[0], inputs[1].type.shape[0])
        [r], [b] = inputs[2].type.shape, inputs[3].type.shape
        outputs = [
            tensor("D", shape=(n,), dtype=dtype),
            tensor("V", shape=(n, r), dtype=dtype),
            tensor("E", shape=(n, b), dtype="float64"),
            tensor("sign", shape=(), dtype=dtype),
            tensor("logabsdet", shape=(), dtype=dtype),
        ]
        return Apply(self, inputs, outputs)

    def infer_shape(self, node, shapes):
        [n], _, [r], [b], *_ = shapes
        return [(n,), (n, r), (n, b), (), ()]

    def perform(self, node, inputs, outputs):
        check_lengths(inputs[0].size, inputs[1].size)
        check_on_line(*inputs[1:])
        found = core_quasiseparable.factor(*inputs)
        for out, value, variable in zip(outputs, found, node.outputs, strict=True):
            out[0] = variable.type.filter(value, allow_downcast=True)

    def kernels(self, n, r) -> list[KernelCall]:
        return [call("line_factor", n=n, k=r)]


class QuasiseparableSolve(_QuasiseparableOp):
    """``K^-1 B`` (n, m) from a factor ``(D, V, E)``, steps, c, sizes and B (n, m)."""

    def make_node(self, D, V, E, steps, c, sizes, B):
        D, V, steps, c, B, sizes = self.made((1, 2, 1, 1, 2), D, V, steps, c, B, sizes)
        E = cast(as_tensor_variable(E), "float64")
        n = merge_lengths(self, D.type.shape[0], B.type.shape[0])
        out = tensor(shape=(n, B.type.shape[1]), dtype=B.type.dtype)
        return Apply(self, [D, V, E, steps, c, sizes, B], [out])

    def infer_shape(self, node, shapes):
        return [shapes[6]]

    def perform(self, node, inputs, outputs):
        check_line_factor(*inputs[:6])
        check_lengths(inputs[0].size, inputs[6].shape[0])
        outputs[0][0] = core_quasiseparable.solve(*inputs)

    def kernels(self, n, r, m) -> list[KernelCall]:
        return [call("line_solve", n=n, k=r, m=m)]


class QuasiseparableLogdetPullback(_QuasiseparableOp):
    """``d log det K`` by d, c and the rates, from a factor ``(D, V, E)`` and the rest."""

    def make_node(self, D, V, E, steps, c, rates, sizes, powers):
        D, V, steps, c, rates, *whole = self.made((1, 2, 1, 1, 1), D, V, steps, c, rates, sizes, powers)
        E = cast(as_tensor_variable(E), "float64")
        return Apply(self, [D, V, E, steps, c, rates, *whole], [D.type(), c.type(), rates.type()])

    def infer_shape(self, node, shapes):
        return [shapes[0], shapes[4], shapes[5]]

    def perform(self, node, inputs, outputs):
        D, V, E, steps, c, rates, sizes, powers = inputs
        check_line_factor(D, V, E, steps, c, sizes)
        check_on_line(steps, c, rates, sizes, powers)
        found = core_quasiseparable.logdet_pullback(*inputs)
        for out, value in zip(outputs, found, strict=True):
            out[0] = value

    def kernels(self, n, r) -> list[KernelCall]:
        return [call("line_inverse", n=n, k=r)]


class QuasiseparableDot(_QuasiseparableOp):
    """``K X`` (n, m)."""

    gufunc_signature = "(n),(n),(r),(b),(b),(b),(n,m)->(n,m)"

    def make_node(self, d, steps, c, rates, sizes, powers, X):
        *real, X, sizes, powers = self.made((1, 1, 1, 1, 2), d, steps, c, rates, X, sizes, powers)
        n = merge_lengths(self, real[0].type.shape[0], X.type.shape[0])
        out = tensor(shape=(n, X.type.shape[1]), dtype=X.type.dtype)
        return Apply(self, [*real, sizes, powers, X], [out])

    def infer_shape(self, node, shapes):
        return [shapes[6]]

    def perform(self, node, inputs, outputs):
        check_lengths(inputs[0].size, inputs[1].size)
        check_on_line(*inputs[1:6])
        check_lengths(inputs[0].size, inputs[6].shape[0])
        outputs[0][0] = core_quasiseparable.dot(*inputs)

    def pullback(self, inputs, outputs, output_grads):
        [d, steps, c, rates, sizes, powers, X], [Y_bar] = inputs, output_grads
        d_bar, c_bar, rates_bar = QuasiseparableOuter()(Y_bar, X, steps, c, rates, sizes, powers)
        X_bar = self(d, steps, c, rates, sizes, powers, Y_bar)
        whole = (disconnected_type(), disconnected_type())
        return [d_bar, disconnected_type(), c_bar, rates_bar, *whole, X_bar]

    def connection_pattern(self, node):
        return [[place not in (1, 4, 5)] for place in range(len(node.inputs))]  # steps are constants

    def kernels(self, n, r, m) -> list[KernelCall]:
        return [call("line_solve", n=n, k=r, m=m)]


class QuasiseparableOuter(_QuasiseparableOp):
    """The pullback onto d, c and the rates of the matrix cotangent ``left right'``, both (n, m)."""

    gufunc_signature = "(n,m),(n,m),(n),(r),(b),(b),(b)->(n),(r),(b)"

    def make_node(self, left, right, steps, c, rates, sizes, powers):
        inputs = self.made((2, 2, 1, 1, 1), left, right, steps, c, rates, sizes, powers)
        left, right, steps, c, rates, *_ = inputs
        n = merge_lengths(self, left.type.shape[0], right.type.shape[0], steps.type.shape[0])
        return Apply(self, inputs, [tensor(shape=(n,), dtype=c.type.dtype), c.type(), rates.type()])

    def infer_shape(self, node, shapes):
        return [shapes[2], shapes[3], shapes[4]]

    def perform(self, node, inputs, outputs):
        check_same_shape(*inputs[:2])
        check_lengths(len(inputs[0]), inputs[2].size)
        check_on_line(*inputs[2:])
        found = core_quasiseparable.outer(*inputs)
        for out, value in zip(outputs, found, strict=True):
            out[0] = value

    def pullback(self, inputs, outputs, output_grads):
        """By the dense matrix: of second derivatives alone."""
        *real, sizes, powers = inputs
        left, right, steps, c, rates = (var.copy() for var in real)  # each apart: some are made of others
        d = pt.ones_like(steps)
        blocks = tuple(zip(*((var.data.tolist()) for var in (sizes, powers)), strict=True))
        bars = pullback(dense(d, steps, c, rates, blocks), [d, c, rates], left @ right.T)
        asked = [
            (bar, g)
            for bar, g in zip(bars, output_grads, strict=True)
            if not isinstance(g.type, DisconnectedType)
        ]
        left_bar, right_bar, c_bar, rates_bar = pullback(
            [bar for bar, _ in asked],
            [left, right, c, rates],
            [g for _, g in asked],
            disconnected_inputs="ignore",
        )
        whole = (disconnected_type(), disconnected_type())
        return [left_bar, right_bar, disconnected_type(), c_bar, rates_bar, *whole]

    def connection_pattern(self, node):
        return [[place in (0, 1, 3, 4)] * 3 for place in range(len(node.inputs))]

    def kernels(self, n, r, m) -> list[KernelCall]:
        return [call("line_solve", n=n, k=r, m=m, count=2)]
