"""Covariances of sorted points on a line, of polynomials times exponentials (see `core_quasiseparable`).

A matrix is given by its diagonal ``d`` (n,), the distance ``steps`` (n,) of each point from the one before
it (the first 0), ``c`` (r,) and ``rates`` (blocks,). ``blocks``: for each block how many of the ``c`` are its
own, and whether it is a power instead of an exponential. A factor is the first three outputs of
`QuasiseparableFactor`.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import grad_undefined, pullback
from pytensor.graph.basic import Apply
from pytensor.tensor.type import tensor

from autotune.ops._base import (
    QUASISEPARABLE,
    Compiled,
    LinalgOp,
    as_real,
    ensure_numba_dispatch,
    merge_lengths,
)
from autotune.ops.shapes import check_lengths
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


class _QuasiseparableOp(LinalgOp):
    family = QUASISEPARABLE
    __props__: tuple[str, ...] = ("blocks",)

    def __init__(self, *, blocks: tuple[tuple[int, bool], ...]):
        self.blocks = blocks

    @property
    def states(self) -> int:
        return sum(size for size, _ in self.blocks)

    def sizes_and_powers(self):
        sizes, powers = zip(*self.blocks, strict=True)
        return np.array(sizes, dtype=np.int64), np.array(powers, dtype=bool)

    def made(self, ndims, *values):
        ensure_numba_dispatch(self.family)
        return as_real(self, ndims, *values)

    def vectors_like(self, n, dtype):
        """The types of d, c and the rates."""
        return [tensor(shape=(size,), dtype=dtype) for size in (n, self.states, len(self.blocks))]


class QuasiseparableFactor(_QuasiseparableOp):
    """``(D, V, E, sign, log|det|)`` of ``K = L diag(D) L'``; all NaN where K is not positive definite."""

    def make_node(self, d, steps, c, rates):
        inputs = self.made((1, 1, 1, 1), d, steps, c, rates)
        dtype = inputs[0].type.dtype
        n = merge_lengths(self, inputs[0].type.shape[0], inputs[1].type.shape[0])
        outputs = [
            tensor("D", shape=(n,), dtype=dtype),
            tensor("V", shape=(n, self.states), dtype=dtype),
            tensor("E", shape=(n, len(self.blocks)), dtype="float64"),
            tensor("sign", shape=(), dtype=dtype),
            tensor("logabsdet", shape=(), dtype=dtype),
        ]
        return Apply(self, inputs, outputs)

    def infer_shape(self, node, shapes):
        n = shapes[0][0]
        return [(n,), (n, self.states), (n, len(self.blocks)), (), ()]

    def perform(self, node, inputs, outputs):
        check_lengths(inputs[0].size, inputs[1].size)
        found = core_quasiseparable.factor(*inputs, *self.sizes_and_powers())
        for out, value, variable in zip(outputs, found, node.outputs, strict=True):
            out[0] = variable.type.filter(value, allow_downcast=True)

    def kernels(self, n) -> list[KernelCall]:
        return [call("line_factor", n=n, k=self.states)]


class QuasiseparableSolve(_QuasiseparableOp):
    """``K^-1 B`` (n, m) from a factor ``(D, V, E)``, steps, c and B (n, m)."""

    def make_node(self, D, V, E, steps, c, B):
        D, V, steps, c, B = self.made((1, 2, 1, 1, 2), D, V, steps, c, B)
        n = merge_lengths(self, D.type.shape[0], B.type.shape[0])
        return Apply(self, [D, V, E, steps, c, B], [tensor(shape=(n, B.type.shape[1]), dtype=B.type.dtype)])

    def infer_shape(self, node, shapes):
        return [shapes[5]]

    def perform(self, node, inputs, outputs):
        D, V, E, steps, c, B = inputs
        check_lengths(D.size, B.shape[0])
        outputs[0][0] = core_quasiseparable.solve(D, V, E, steps, c, self.sizes_and_powers()[0], B)

    def kernels(self, n, m) -> list[KernelCall]:
        return [call("line_solve", n=n, k=self.states, m=m)]


class QuasiseparableLogdetPullback(_QuasiseparableOp):
    """``d log det K`` by d, c and the rates, from a factor ``(D, V, E)``, steps, c and rates."""

    def make_node(self, D, V, E, steps, c, rates):
        D, V, steps, c, rates = self.made((1, 2, 1, 1, 1), D, V, steps, c, rates)
        return Apply(self, [D, V, E, steps, c, rates], self.vectors_like(D.type.shape[0], D.type.dtype))

    def infer_shape(self, node, shapes):
        return [shapes[0], (self.states,), (len(self.blocks),)]

    def perform(self, node, inputs, outputs):
        found = core_quasiseparable.logdet_pullback(*inputs, *self.sizes_and_powers())
        for out, value in zip(outputs, found, strict=True):
            out[0] = value

    def kernels(self, n) -> list[KernelCall]:
        return [call("line_inverse", n=n, k=self.states)]


class QuasiseparableDot(_QuasiseparableOp):
    """``K X`` (n, m)."""

    gufunc_signature = "(n),(n),(r),(b),(n,m)->(n,m)"

    def make_node(self, d, steps, c, rates, X):
        inputs = self.made((1, 1, 1, 1, 2), d, steps, c, rates, X)
        n = merge_lengths(self, inputs[0].type.shape[0], inputs[4].type.shape[0])
        out = tensor(shape=(n, inputs[4].type.shape[1]), dtype=inputs[4].type.dtype)
        return Apply(self, inputs, [out])

    def infer_shape(self, node, shapes):
        return [shapes[4]]

    def perform(self, node, inputs, outputs):
        d, steps, c, rates, X = inputs
        check_lengths(d.size, X.shape[0])
        outputs[0][0] = core_quasiseparable.dot(d, steps, c, rates, *self.sizes_and_powers(), X)

    def pullback(self, inputs, outputs, output_grads):
        [d, steps, c, rates, X], [Y_bar] = inputs, output_grads
        d_bar, c_bar, rates_bar = QuasiseparableOuter(blocks=self.blocks)(Y_bar, X, steps, c, rates)
        return [d_bar, grad_undefined(self, 1, steps), c_bar, rates_bar, self(d, steps, c, rates, Y_bar)]

    def kernels(self, n, m) -> list[KernelCall]:
        return [call("line_solve", n=n, k=self.states, m=m)]


class QuasiseparableOuter(_QuasiseparableOp):
    """The pullback onto d, c and the rates of the matrix cotangent ``left right'``, both (n, m)."""

    gufunc_signature = "(n,m),(n,m),(n),(r),(b)->(n),(r),(b)"

    def make_node(self, left, right, steps, c, rates):
        inputs = self.made((2, 2, 1, 1, 1), left, right, steps, c, rates)
        n = merge_lengths(self, inputs[0].type.shape[0], inputs[1].type.shape[0])
        return Apply(self, inputs, self.vectors_like(n, inputs[0].type.dtype))

    def infer_shape(self, node, shapes):
        return [(shapes[0][0],), (self.states,), (len(self.blocks),)]

    def perform(self, node, inputs, outputs):
        check_lengths(inputs[0].size, inputs[1].size)
        found = core_quasiseparable.outer(*inputs, *self.sizes_and_powers())
        for out, value in zip(outputs, found, strict=True):
            out[0] = value

    def pullback(self, inputs, outputs, output_grads):
        """By the dense matrix: of second derivatives alone."""
        left, right, steps, c, rates = inputs
        d = pt.ones_like(steps)
        inner = [d, c, rates]
        M = left @ right.T
        bars = pullback(dense(d, steps, c, rates, self.blocks), inner, M)
        left_bar, right_bar, c_bar, rates_bar = pullback(
            bars, [left, right, c, rates], list(output_grads), disconnected_inputs="ignore"
        )
        return [left_bar, right_bar, grad_undefined(self, 2, steps), c_bar, rates_bar]

    def kernels(self, n, m) -> list[KernelCall]:
        return [call("line_solve", n=n, k=self.states, m=m, count=2)]
