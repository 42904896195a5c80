"""Gradients, Hessian-vector products and Jacobians of a graph's outputs."""

from dataclasses import dataclass

import pytensor.tensor as pt
from pytensor.gradient import jacobian

SYMMETRIC = ("spd", "sym", "indefinite")


@dataclass(frozen=True)
class Derivatives:
    """What is differentiated: one combination per output, the positions of the inputs, and how far."""

    combine: tuple
    wrt: tuple
    hvp: bool = False
    jacobian: str = ""

    def of(self, outs, inputs):
        """The scalar that combines ``outs``, its gradients, what else was asked; empty if nothing is real."""
        scalar = combined(outs, self.combine)
        if scalar is None:
            return []
        wrt = [inputs[i].var for i in self.wrt]
        if not wrt:
            return [scalar]
        grads = pt.grad(scalar, wrt, disconnected_inputs="ignore")
        extra = [scalar, *grads]
        if self.hvp:
            extra += _products(grads, wrt, [inputs[i].kind for i in self.wrt])
        if self.jacobian:
            vectors = [o for o in outs if o.type.numpy_dtype.kind == "f" and o.ndim == 1]
            how = {"disconnected_inputs": "ignore", "vectorize": self.jacobian == "vectorize"}
            extra += jacobian(vectors[0], wrt[:1], **how) if vectors else []
        return extra


def draw_derivatives(c, outs, inputs):
    """Random derivatives, None for none."""
    if not c.chance(0.6):
        return None
    floats = [
        i for i, given in enumerate(inputs) if given.var.type.numpy_dtype.kind == "f" and not given.frozen
    ]
    floats = c.shuffled(floats)
    return Derivatives(
        tuple(c.pick(list(COMBINE)) for _ in outs),
        tuple(floats if c.chance(0.35) else floats[: c.integer(1, 4)]),
        c.chance(0.1),
        c.pick({"": 0.94, "scan": 0.03, "vectorize": 0.03}),
    )


def combined(outs, how):
    """The sum of one term per real output."""
    pairs = zip(outs, how, strict=True)
    terms = [COMBINE[name](o) for o, name in pairs if o.type.numpy_dtype.kind == "f"]
    return sum(terms[1:], terms[0]) if terms else None


def _weighted(o):
    if o.ndim == 0:
        return 1.7 * o
    return (o * pt.cos(pt.arange(o.size).astype(o.dtype) + 0.5).reshape(o.shape, ndim=o.ndim)).sum()


COMBINE = {
    "sum": lambda o: o.sum(),
    "sqr": lambda o: 0.5 * pt.sqr(o).sum(),
    "sin": lambda o: pt.sin(o / (1 + abs(o) / 1024)).sum(),  # sin of a huge number is only rounding
    "weighted": _weighted,
    "first": lambda o: o.ravel()[0],
    "logabs": lambda o: pt.log(pt.abs(o).sum() + 1.0),
}


def _products(grads, wrt, kinds):
    """Hessian times a fixed direction, symmetric where a matrix is taken to be symmetric."""
    directions = []
    for grad, kind in zip(grads, kinds, strict=True):
        v = pt.ones_like(grad)
        if grad.ndim:
            v = pt.cos(pt.arange(grad.size).astype(grad.dtype)).reshape(grad.shape, ndim=grad.ndim)
        directions.append(v + v.mT if kind in SYMMETRIC and v.ndim >= 2 else v)
    dot = sum((grad * v).sum() for grad, v in zip(grads, directions, strict=True))
    return pt.grad(dot, wrt, disconnected_inputs="ignore")
