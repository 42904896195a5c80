"""Solvers that hold where something is found at run time; else PyTensor's own dense routines take over."""

from __future__ import annotations

from typing import Any

import pytensor.tensor as pt

from autotune.algebra.dense import Dense
from autotune.algebra.guarded import either, guarded
from autotune.algebra.plain import PlainSolver
from autotune.algebra.solver import Solver

# Of the right-hand sides that tell at run time whether a part may be solved with.
FREQUENCIES = (0.7, 1.1, 1.9)
PROBES = len(FREQUENCIES)
# How many times larger than the solution of the whole that of a part may be: so much accuracy is lost.
MOST_GROWTH = 10.0


def probes(n, dtype):
    """Columns with entries of all sizes and signs, the same in every run."""
    rows = pt.arange(1, n + 1)
    return pt.stack([pt.sin(frequency * rows * rows).astype(dtype) for frequency in FREQUENCIES], axis=1)


def cancels_little(of_part, of_whole) -> Any:
    """Whether the solutions of a part are not much larger than those of the whole, which are made of them.

    They are where the part is singular, or much closer to it than the whole.
    """
    part, whole = (pt.abs(x).sum(axis=-2) for x in (of_part, of_whole))
    return pt.all(part <= MOST_GROWTH * whole)


class GuardedSolver(Solver):
    """Answers where ``accepted``, a number, is true; those of ``direct`` elsewhere.

    ``inputs``: the variables that all is made of, right-hand sides apart. ``before_autodiff``: the answers
    will be differentiated.
    """

    accepted: Any
    direct: Solver
    inputs: tuple[Any, ...]
    before_autodiff: bool

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        direct = self.direct.answer(kind, rhs, transposed, checked)
        fast = self.fast(kind, rhs, transposed, checked)
        fast = [d.type.filter_variable(f, allow_convert=True) for f, d in zip(fast, direct, strict=True)]
        if not self.before_autodiff:
            return either(self.accepted, fast, direct)
        inputs = self.inputs if rhs is None else (*self.inputs, rhs)
        return guarded(self.accepted, fast, direct, inputs)

    def fast(self, kind, rhs, transposed, checked) -> list[Any]:
        """The answer where it is accepted."""
        return super().answer(kind, rhs, transposed)


class WhereItHolds(GuardedSolver):
    """The answers of another solver, where its structure holds."""

    def __init__(self, solver: Solver, direct: Solver, accepted, inputs, before_autodiff):
        self.solver, self.direct, self.accepted = solver, direct, accepted
        self.inputs, self.before_autodiff = tuple(inputs), before_autodiff

    def fast(self, kind, rhs, transposed, checked):
        return self.solver.answer(kind, rhs, transposed, checked)


class DirectSolver(PlainSolver):
    """PyTensor's own dense routines, in the form that it differentiates."""

    def logdet(self):
        return super().logdet() if self.positive_definite else pt.linalg.slogdet(self.matrix)


class WhereDefinite(WhereItHolds):
    """Of a symmetric operator that may not be definite: PyTensor's dense routines where it is not."""

    def __init__(self, solver: Solver, operator: Any, definite, before_autodiff: bool):
        super().__init__(solver, DenseOfParts(operator), definite, operator.parts, before_autodiff)

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        if checked or kind == "is_positive_definite":
            return self.solver.answer(kind, rhs, transposed, checked)
        return super().answer(kind, rhs, transposed, checked)


class DenseOfParts(DirectSolver):
    """The dense routines, with the cotangents of the parts of an operator."""

    def __init__(self, operator: Any):
        super().__init__(operator.to_dense(), False, True)
        self.operator = operator

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        if kind != "logdet_pullback":
            return super().answer(kind, rhs, transposed, checked)
        [inverse] = super().answer("inverse", checked=checked)
        return self.operator.pullback(Dense(inverse.mT))
