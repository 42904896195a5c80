"""Elementwise loops: numbers streamed through memory, and the scalar functions computed on the way.

Arithmetic, comparisons, square roots and divisions are vectorised and hide behind the memory; exponentials,
logarithms and the rest call the mathematical library one number at a time, and hide the arithmetic. A fused
loop reads each number once: its price is that of the functions in it, not of the Ops that it was made of.
"""

from __future__ import annotations

from collections import Counter
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

UNITS: dict[str, dict[float, tuple[type, ...]]] = {
    "exp": {
        1.0: (scalar.Exp, scalar.Exp2),
        1.5: (scalar.ArcSin, scalar.ArcCos, scalar.IntDiv, scalar.Mod),
        2.0: (scalar.Sin, scalar.Cos, scalar.ArcTan),
        100.0: (ScalarLoop,),
    },
    "log": {
        1.0: (scalar.Log, scalar.Log2, special.Erf, special.Erfc),
        1.3: (scalar.Log1p, scalar.Expm1, scalar.Log10, special.Sigmoid),
        2.0: (special.Log1mexp, special.Erfinv),
    },
    "tanh": {
        1.0: (
            *(scalar.Tanh, scalar.Sinh, scalar.Cosh, scalar.Tan, scalar.Pow),
            *(special.GammaLn, special.Gamma, special.Psi),
        ),
        1.3: (special.Softplus, special.Erfcx, special.TriGamma),
        1.5: (special.J0, special.J1, special.I0, special.I1),
    },
}
"""Functions of the mathematical library by the kernel that they are like, in both precisions, and their time
in units of its. The three kernels differ more from machine to machine, and between float64 and float32, than
the functions of one class do."""
SPECIAL = ("exp", 10.0)
"""What is in no list: a special function, such as an incomplete gamma function."""

Axes = frozenset[int]
Work = Counter[str]
"""How many numbers each of the kernels of `UNITS` works on."""


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
    return (*_passes(n, work, moved, written), *crosswise(inputs))


def crosswise(arrays: Sequence[Array]) -> list[KernelCall]:
    """What it costs to read arrays against their memory order, beyond the loop that reads them."""
    against = [a for a in arrays if a.crosswise]
    return [call("transpose", m=a.size // max(a.length(-1), 1), n=a.length(-1)) for a in against]


def _passes(n: int, work: Work, moved: int, written: int) -> list[KernelCall]:
    """The kernels of `UNITS` move 2 n numbers, ``stream`` 3 n, ``reduce`` n."""
    if work:
        beyond = max(0.0, moved / n - 2) / 3
        functions = [call(kernel, n=n, count=numbers / n) for kernel, numbers in work.items()]
        return [*functions, *([call("stream", n=n, count=beyond)] if beyond else [])]
    if not written and moved <= n:
        return [call("reduce", n=n)]
    return [call("stream", n=n, count=moved / n / 3)]


def scalar_work(op: Any, operands: Sequence[Axes], shape: Sequence[int]) -> tuple[Work, list[Axes]]:
    """The work of the mathematical library, and the axes that each result varies along.

    What does not vary along the innermost axes is computed outside their loop.
    """
    inner = getattr(op, "fgraph", None)
    if inner is None or isinstance(op, ScalarLoop):
        axes = frozenset().union(*operands)
        kernel, units = weight(op)
        numbers = units * prod(shape[: max(axes, default=-1) + 1])
        return Work({kernel: numbers} if numbers else {}), [axes] * max(op.nout, 1)
    along: dict[Any, Axes] = dict(zip(inner.inputs, operands, strict=True))
    total = Work()
    for node in inner.toposort():
        given = [frozenset() if isinstance(v, Constant) else along[v] for v in node.inputs]
        work, results = scalar_work(node.op, given, shape)
        total.update(work)
        along |= dict(zip(node.outputs, results, strict=False))
    return total, [along.get(v, frozenset()) for v in inner.outputs]


def weight(op: Any) -> tuple[str, float]:
    """The kernel that one evaluation is like, and its time in units of that; 0 for what is vectorised."""
    if isinstance(op, VECTORISED):
        return "exp", 0.0
    classes = ((kernel, units, ops) for kernel, group in UNITS.items() for units, ops in group.items())
    return next(((kernel, units) for kernel, units, ops in classes if isinstance(op, ops)), SPECIAL)


def reduction(sized: SizedNode) -> Cost:
    """Sum, product, extremum over some axes; an extremum is not vectorised."""
    return cost(*reduce_calls(sized.op, sized.inputs[0]))


def reduce_calls(op: Any, array: Array) -> list[KernelCall]:
    """The pass itself, and what a crosswise one costs on top."""
    extremum = isinstance(getattr(op, "scalar_op", None), scalar.Maximum | scalar.Minimum)
    calls = [call("reduce", n=array.size, count=3 if extremum else 1)]
    return calls + crosswise([array])
