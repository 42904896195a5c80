"""Elementwise loops: numbers streamed through memory, and the scalar functions computed on the way.

Arithmetic, comparisons, square roots and divisions are vectorised and hide behind the memory; exponentials,
logarithms and the rest call the mathematical library one number at a time, and hide the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from pytensor.graph.basic import Constant
from pytensor.scalar import basic as scalar
from pytensor.scalar import math as special
from pytensor.scalar.loop import ScalarLoop

from autotune.pricing.arrays import Array, Cost, SizedNode, cost
from cost_models import KernelCall, call

VECTORISED = (
    *(scalar.Add, scalar.Sub, scalar.Mul, scalar.TrueDiv, scalar.Neg, scalar.Abs, scalar.Sqr, scalar.Sqrt),
    *(scalar.Reciprocal, scalar.Sign, scalar.Maximum, scalar.Minimum, scalar.Clip, scalar.Switch),
    *(scalar.LogicalComparison, scalar.FixedLogicalComparison, scalar.UnaryBitOp, scalar.BinaryBitOp),
    *(scalar.Cast, scalar.Identity, scalar.Second, scalar.Floor, scalar.Ceil, scalar.Trunc),
    *(scalar.Real, scalar.Imag, scalar.Conj, scalar.RoundHalfToEven),
)
"""Scalar Ops that cost nothing beyond the memory that their operands come from."""

IN_EXPONENTIALS: dict[float, tuple[type, ...]] = {
    1.0: (scalar.Exp, scalar.Exp2, scalar.Log, scalar.Log2, scalar.Log10, special.Sigmoid, special.Erf),
    2.0: (
        *(scalar.Log1p, scalar.Expm1, scalar.Sin, scalar.Cos, scalar.Pow, special.Erfc, special.Erfinv),
        *(scalar.ArcSin, scalar.ArcCos, scalar.ArcTan, scalar.IntDiv, scalar.Mod, special.Log1mexp),
    ),
    3.0: (scalar.Tanh, scalar.Sinh, scalar.Cosh, scalar.Tan, special.GammaLn, special.Psi, special.Gamma),
    4.0: (special.Softplus, special.Erfcx, special.TriGamma, special.J0, special.J1, special.I0, special.I1),
    100.0: (ScalarLoop,),
}
"""Time of other functions of the mathematical library in units of that of ``exp``."""
SPECIAL = 10.0
"""What is in no list: a special function, such as an incomplete gamma function."""
CROSSWISE = 4.0
"""Passes that it costs to read an array against its memory order, beyond the loop that reads it."""

Axes = frozenset[int]


def elementwise(sized: SizedNode) -> Cost:
    """One loop over the broadcast shape; all outputs are written."""
    return cost(*loop(sized.op.scalar_op, sized.inputs, sized.outputs))


def loop(
    scalar_op: Any, inputs: Sequence[Array], outputs: Sequence[Array], written: int | None = None
) -> tuple[KernelCall, ...]:
    """Kernels of a loop that writes ``written`` of its outputs to memory (default: all)."""
    shape = tuple(max((a.length(axis) for a in inputs), default=1) for axis in range(len(outputs[0].shape)))
    n = prod(shape)
    if n == 0:
        return ()
    operands = [frozenset(i for i, length in enumerate(a.shape) if length != 1) for a in inputs]
    work, _ = scalar_work(scalar_op, operands, shape)
    written = len(outputs) if written is None else written
    moved = sum(a.size for a in inputs if a.size > 1) + written * n
    crosswise = [call("stream", n=a.size, count=CROSSWISE) for a in inputs if a.crosswise]
    return (*_passes(n, work, moved, written), *crosswise)


def _passes(n: int, work: float, moved: int, written: int) -> list[KernelCall]:
    """The kernel ``exp`` moves 2 n numbers, ``stream`` 3 n, ``reduce`` n."""
    if work:
        beyond = max(0.0, moved / n - 2) / 3
        return [call("exp", n=n, count=work / n), *([call("stream", n=n, count=beyond)] if beyond else [])]
    if not written and moved <= n:
        return [call("reduce", n=n)]
    return [call("stream", n=n, count=moved / n / 3)]


def scalar_work(op: Any, operands: Sequence[Axes], shape: Sequence[int]) -> tuple[float, list[Axes]]:
    """Exponentials' worth of work, and the axes that each result varies along.

    What does not vary along the innermost axes is computed outside their loop.
    """
    inner = getattr(op, "fgraph", None)
    if inner is None or isinstance(op, ScalarLoop):
        axes = frozenset().union(*operands)
        return weight(op) * prod(shape[: max(axes, default=-1) + 1]), [axes] * max(op.nout, 1)
    along: dict[Any, Axes] = dict(zip(inner.inputs, operands, strict=True))
    total = 0.0
    for node in inner.toposort():
        given = [frozenset() if isinstance(v, Constant) else along[v] for v in node.inputs]
        work, results = scalar_work(node.op, given, shape)
        total += work
        along |= dict(zip(node.outputs, results, strict=False))
    return total, [along.get(v, frozenset()) for v in inner.outputs]


def weight(op: Any) -> float:
    """The time of one evaluation, in exponentials."""
    if isinstance(op, VECTORISED):
        return 0.0
    return next((units for units, ops in IN_EXPONENTIALS.items() if isinstance(op, ops)), SPECIAL)


def reduction(sized: SizedNode) -> Cost:
    """Sum, product, extremum over some axes; an extremum is not vectorised."""
    return cost(*reduce_calls(sized.op, sized.inputs[0]))


def reduce_calls(op: Any, array: Array) -> list[KernelCall]:
    """The pass itself, and what a crosswise one costs on top."""
    extremum = isinstance(getattr(op, "scalar_op", None), scalar.Maximum | scalar.Minimum)
    calls = [call("reduce", n=array.size, count=3 if extremum else 1)]
    return calls + ([call("stream", n=array.size, count=CROSSWISE)] if array.crosswise else [])
