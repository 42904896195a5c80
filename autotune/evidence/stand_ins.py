"""A problem as a small graph of its own, to be timed: synthetic inputs, and the answers of each candidate.

The inputs are the parts of an operator like the one of the problem, which that makes itself
(`autotune.algebra.operator.Operator.example`), and the right-hand sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.assumptions import assume
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Constant
from pytensor.tensor.linalg.solvers.general import solve
from pytensor.tensor.linalg.solvers.psd import cho_solve
from pytensor.tensor.linalg.summary import slogdet

from autotune.algebra import kind_of
from autotune.algebra.dense import Dense
from autotune.algebra.example import CONDITION, Draft
from autotune.algebra.operator import Operator
from autotune.algebra.plain import PlainSolver
from autotune.algebra.solver import Solver
from autotune.plan.session import switched_off
from autotune.problem import Decision, Problem, known
from autotune.strategies.base import System


@dataclass(frozen=True)
class Modes:
    """How candidates are written and compiled.

    ``plain``: by PyTensor alone; ``lowering`` also writes request Ops as the algorithms that they carry and
    chooses nothing. ``answering`` a system by a decision, and ``requesting`` on an operator with its facts,
    give what answers by one strategy; the dense matrix is their last argument.
    """

    plain: Mode
    lowering: Mode
    answering: Callable[[str, Decision, System, Any], Solver]
    requesting: Callable[[str, Decision, Operator, Mapping[str, bool], Any], Solver]


@dataclass(eq=False)
class StandIn:
    """Inputs with values that stand for those of a problem with known sizes.

    ``operator`` is made of inputs; ``matrix`` is the same, dense, with the facts that PyTensor is told.
    ``rhs`` holds the right-hand side of each request, None where it has none. ``zeros`` is a vector of them.
    """

    problem: Problem
    operator: Operator
    matrix: Any
    rhs: list[Any]
    zeros: Any
    inputs: list[Any]
    values: list[np.ndarray]

    def function(self, decision: Decision, name: str, modes: Modes) -> Any:
        """The compiled answers by one candidate, with what it would be built with by ``decision``."""
        import pytensor

        answers = self._answers(decision, name, modes)
        outputs = [*answers, *self._gradients(answers), *([self.matrix] if self.problem.shared else [])]
        lowers = self.problem.differentiated and name != "keep"
        mode = modes.lowering if lowers else modes.plain
        with nullcontext() if lowers else switched_off():
            fn = pytensor.function(self.inputs, outputs, mode=mode, on_unused_input="ignore")
        fn.trust_input = True
        return fn

    def comparable(self, outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs, square ones with their transpose added where the matrix is symmetric.

        A gradient by a symmetric matrix, or a part of it, may be told by one of its triangles.
        """
        if not (self.problem.symmetric or self.problem.positive_definite):
            return list(outputs)
        return [a + np.swapaxes(a, -1, -2) if _is_square(a) else a for a in outputs]

    def _answers(self, decision: Decision, name: str, modes: Modes) -> list[Any]:
        """An answer to each request, of a log-determinant without its sign."""
        problem = self.problem
        if name == "keep":
            forms = {r.form for r in problem.requests}
            written = {form: AsWritten(self, form) for form in forms}
            solvers: list[Solver] = [written[r.form] for r in problem.requests]
        else:
            solvers = [self._solver(decision, name, modes)] * len(problem.requests)
        asked = zip(solvers, problem.requests, self.rhs, strict=True)
        by_form = name == "keep"  # says already which requests are checked
        return [
            solver.answer(r.kind, b, r.transposed, r.checked and not by_form)[-1] for solver, r, b in asked
        ]

    def _solver(self, decision: Decision, name: str, modes: Modes) -> Solver:
        problem = self.problem
        if problem.differentiated:
            facts = {"positive_definite": problem.positive_definite, "symmetric": problem.symmetric}
            return modes.requesting(name, decision, self.operator, facts, self.matrix)
        kinds = frozenset(r.kind for r in problem.requests)
        definite, symmetric = problem.positive_definite, problem.symmetric
        system = System(self.operator, definite, symmetric, problem.linker, kinds)
        return modes.answering(name, decision, system, self.matrix)

    def _gradients(self, answers) -> list[Any]:
        """Of a scalar that depends on every answer, if the problem is to be differentiated."""
        if not self.problem.differentiated:
            return []
        linear = ("logdet", "inv_quad")
        asked = zip(self.problem.requests, answers, strict=True)
        terms = [
            (a if r.kind in linear else a**2).sum() for r, a in asked if np.dtype(a.type.dtype).kind == "f"
        ]
        changing = (part for part in self.operator.parts if not isinstance(part, Constant))
        wrt = [*changing, *(b for b in self.rhs if b is not None)]
        return pt.grad(sum(terms[1:], terms[0]), wrt, disconnected_inputs="ignore") if terms else []


def _is_square(array: Any) -> bool:
    return np.ndim(array) >= 2 and np.shape(array)[-1] == np.shape(array)[-2]


def has_stand_in(problem: Problem) -> bool:
    """Whether the problem has a synthetic graph: all sizes are known, and PyTensor can differentiate it."""
    return (
        not problem.unknown_sizes
        and 0 not in problem.sizes.values()
        and problem.linker is not None
        and not (problem.differentiated and problem.asks("factor"))
    )


def stand_in(problem: Problem, condition_number: float | None = None) -> StandIn:
    """The problem as a graph of its own; the same values in every process.

    A dense matrix that is not given is a sum here, so that it may be overwritten as in the function. As for
    ``cholesky_or_lu``'s price it is positive definite, also where nobody tagged it, but not in batches.
    """
    n = known(problem.n)
    batch = () if problem.batch == 1 else (known(problem.batch),)
    general = problem.batch != 1 and not problem.symmetric
    draft = Draft(problem.dtype, batch, general, condition_number or CONDITION)
    zeros = draft.input("zeros", np.zeros(n))
    operator = kind_of(problem.term.kind).example(problem.term, draft)
    if isinstance(operator, Dense) and not problem.given:
        operator = Dense(operator.matrix + zeros[:, None])
    facts = {"positive_definite": problem.positive_definite, "symmetric": problem.symmetric}
    known_facts = {name: True for name, holds in facts.items() if holds}
    dense = operator.to_dense()
    matrix = assume(dense, **known_facts) if known_facts else dense
    rhs = [
        draft.input("b", draft.rng.standard_normal((*batch, n, known(r.columns))))
        if r.kind in ("solve", "inv_quad")
        else None
        for r in problem.requests
    ]
    return StandIn(problem, operator, matrix, rhs, zeros, draft.inputs, draft.values)


class AsWritten(PlainSolver):
    """What PyTensor makes of requests that are all written in one form (see ``Request.form``).

    A product with an explicit inverse is one with a sum that holds it, as in gradients: PyTensor would make a
    solve of any other.
    """

    def __init__(self, inputs: StandIn, form: str):
        super().__init__(inputs.matrix, form == "cholesky", inputs.problem.symmetric)
        self.form, self.zeros = form, inputs.zeros
        self._inverse: Any = None

    def inverse(self):
        if self._inverse is None:
            self._inverse = super().inverse()
        return self._inverse

    def logdet(self):
        return super().logdet() if self.form == "cholesky" else slogdet(self.matrix)

    def solve(self, rhs, transposed=False):
        if self.form == "cholesky":
            return cho_solve((self.factor(), True), rhs, b_ndim=2)
        if self.form == "inverse":
            inverse = self.inverse().mT if transposed else self.inverse()
            return (inverse + self.zeros[:, None]) @ rhs
        matrix = self.matrix.mT if transposed and self.form == "gen" else self.matrix
        return solve(matrix, rhs, assume_a=self.form, b_ndim=2)
