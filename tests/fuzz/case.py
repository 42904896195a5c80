"""One random graph, ready to be compiled: its inputs, its outputs, its derivatives, its values."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pytensor.gradient import DisconnectedInputError, NullTypeGradError

from fuzz.choices import Choices
from fuzz.derivatives import Derivatives, draw_derivatives
from fuzz.generator import Generator
from fuzz.graphs import graph
from fuzz.wrappers import wrapper

NO_GRADIENT = (DisconnectedInputError, NullTypeGradError, NotImplementedError)


@dataclass
class Case:
    """``inner``: the outputs before they are wrapped; ``values``: after; ``outputs``: with derivatives."""

    g: Generator
    inner: list
    wrap: Any = None
    values: list = field(default_factory=list)
    derivatives: Derivatives | None = None
    keep_values: bool = True
    only: tuple | None = None  # positions of the outputs that are looked at
    outputs: list = field(default_factory=list)
    note: str = ""

    @property
    def variables(self):
        return [i.var for i in self.g.inputs if not i.shared]

    @property
    def used_dtypes(self):
        """Those of the real inputs."""
        return self.g.used_dtypes

    def derived(self, values):
        """``values`` (those of the case, or the tuned ones) and their derivatives."""
        extra = [] if self.derivatives is None else self.derivatives.of(values, self.g.inputs)
        outs = [*values, *extra] if self.keep_values or not extra else extra
        return outs if self.only is None else [outs[i] for i in self.only if i < len(outs)]

    @property
    def through_switches(self):
        """Positions of derivatives through a switch on NaN: PyTensor drops the 0 * NaN of the branch that is
        not taken, or keeps it, as the graph beside it allows."""
        if self.derivatives is None or not self.g.tags["ask:fallback"]:
            return frozenset()
        first = len(self.values) if self.keep_values else 0
        kept = range(len(self.outputs)) if self.only is None else self.only
        return frozenset(at for at, i in enumerate(kept) if i >= first)

    def without_shared(self, values):
        return [v for i, v in zip(self.g.inputs, values, strict=True) if not i.shared]

    def set_shared(self, values):
        for i, v in zip(self.g.inputs, values, strict=True):
            if i.shared:
                i.var.set_value(v)


def draw_case(seed, only=None):
    """The random graph of a seed. Raises `Skip` where it is not worth a judgement."""
    g = Generator(seed)
    inner = graph(g)
    case = Case(g, inner, wrapper(g, inner), only=only)
    case.values = inner if case.wrap is None else case.wrap(inner)
    c = Choices("derivatives", seed)
    case.keep_values = c.chance(0.75)
    case.derivatives = draw_derivatives(c, case.values, g.inputs)
    try:
        case.outputs = case.derived(case.values)
    except Exception as error:  # PyTensor has no gradient of this graph
        case.note = f"no gradient: {type(error).__name__}"
        case.derivatives = None
        case.outputs = case.derived(case.values)
    if case.derivatives:
        g.tag("gradient")
        g.tags["Hessian-vector"] += case.derivatives.hvp
    return case


def rounds(case):
    """The values of each call: of the lengths at hand, and of others where none is known when compiling."""
    c = Choices("lengths", case.g.seed)
    case.g._stream = c._stream
    lengths = [case.g.dims, case.g.other_lengths()]
    return [case.g.values(dims, number) for number, dims in enumerate(lengths, 1) if dims is not None]


def misfit(case, c):
    """Values of which one input has another length than the rest, what was changed, and whether a length of
    one was or became another; None if none is free.

    The changed axis has no static length: only the graph can refuse it.
    """
    values = case.without_shared(case.g.values(case.g.dims, 1))
    places = [
        (at, axis)
        for at, var in enumerate(case.variables)
        for axis, length in enumerate(var.type.shape)
        if length is None
    ]
    if not places:
        return None
    at, axis = c.pick(places)
    old = values[at]
    shape = list(old.shape)
    shape[axis] = max(0, c.pick([shape[axis] - 1, shape[axis] + 1, 2 * shape[axis] + 3, 1, 0]))
    if shape[axis] == old.shape[axis]:
        return None
    values[at] = np.resize(old, shape) if old.size else np.ones(shape, old.dtype)
    name = case.variables[at].name or f"input {at}"
    what = f"{name} {case.variables[at].type}: {old.shape} made {tuple(shape)}"
    return values, what, 1 in (shape[axis], old.shape[axis])
