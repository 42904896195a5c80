"""Ops that make, copy, select and reorder numbers. The kernel ``stream`` moves 3 n numbers."""

from __future__ import annotations

from collections.abc import Callable
from math import log2

from autotune.pricing.arrays import Cost, SizedNode, cost
from autotune.pricing.elementwise import crosswise
from cost_models import call

COPY = 2 / 3
"""A pass that reads and writes, in units of ``stream``."""


def nothing(sized: SizedNode) -> Cost:
    """A view, a number, a check: no more than a node."""
    return cost()


def passes(share: float) -> Callable[[SizedNode], Cost]:
    """So many streams over each output."""

    def rule(sized: SizedNode) -> Cost:
        calls = [call("stream", n=a.size, count=share) for a in sized.outputs]
        return cost(*calls, *crosswise(sized.inputs))

    return rule


def filling(sized: SizedNode) -> Cost:
    """A new array with one number everywhere, or with counted ones."""
    return cost(*(call("fill", n=a.size) for a in sized.outputs))


def joining(sized: SizedNode) -> Cost:
    """Every part is copied into its place."""
    out = sized.outputs[0]
    joined = call("join", m=out.size // max(out.length(-1), 1), n=out.length(-1))
    return cost(joined, *crosswise(sized.inputs))


def view_or_copy(sized: SizedNode) -> Cost:
    """A basic index is a view."""
    return cost() if sized.op.view_map else passes(COPY)(sized)


def increment(sized: SizedNode) -> Cost:
    """A copy of the array, unless it is overwritten, and a pass over what is added or set."""
    array, change = sized.inputs[:2]
    copy = [] if sized.op.destroy_map else [call("stream", n=array.size, count=COPY)]
    return cost(*copy, call("stream", n=change.size))


def matrix_with_diagonal(sized: SizedNode) -> Cost:
    """A square matrix of zeros with something on a diagonal."""
    out = sized.outputs[0]
    return cost(call("diagonal", n=max(out.length(0), out.length(1))))


def cumulative(sized: SizedNode) -> Cost:
    """One number after the other: three times a vectorised sum."""
    return cost(call("reduce", n=sized.inputs[0].size, count=3))


def sorting(sized: SizedNode) -> Cost:
    """n log2 n comparisons that cannot be predicted."""
    n = sized.inputs[0].size
    return cost(call("exp", n=n, count=log2(n + 2)))


def drawing(sized: SizedNode) -> Cost:
    """Random numbers: a few evaluations of the mathematical library each."""
    return cost(*(call("exp", n=a.size, count=4) for a in sized.outputs if a.dtype))


def transform(sized: SizedNode) -> Cost:
    """A fast Fourier transform of n numbers: about 5 n log2 n flops in passes over the memory."""
    n = sized.inputs[0].size
    return cost(call("stream", n=n, count=log2(n + 2)))
