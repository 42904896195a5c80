"""A problem as a small graph of its own, to be timed: synthetic inputs, and the answers of each candidate.

The inputs are the parts of the operator (a dense matrix, or ``U``, ``c``, ``V`` and ``d``) and the right-hand
sides. Lengths other than 1 are not static, so that Numba's code for any size serves every size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.assumptions import assume
from pytensor.compile.mode import Mode
from pytensor.tensor.linalg.solvers.general import solve
from pytensor.tensor.linalg.solvers.psd import cho_solve
from pytensor.tensor.linalg.summary import slogdet

from autotune.algebra.dense import Dense
from autotune.algebra.diagonal import Diagonal
from autotune.algebra.low_rank import LowRank
from autotune.algebra.operator import Operator
from autotune.algebra.plain import PlainSolver
from autotune.algebra.requests import RequestedSystem
from autotune.algebra.solver import Solver
from autotune.algebra.sum import Sum
from autotune.choose.candidates import strategy
from autotune.plan.session import switched_off
from autotune.problem import Decision, Options, Problem, Term, known
from autotune.strategies.base import System

STRUCTURES = ({"dense"}, {"diagonal", "low_rank"})
CONDITION = 10.0
# Geometric mean of eigenvalues: no log-determinant is nearly 0, and no determinant soon too large.
MIDDLE = 1.05


@dataclass(frozen=True)
class Modes:
    """How candidates are compiled: ``plain``, by PyTensor alone, and ``lowering``, which also writes request
    Ops as the algorithms that they carry and chooses nothing."""

    plain: Mode
    lowering: Mode


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

        answers = self._answers(decision, name)
        outputs = [*answers, *self._gradients(answers), *([self.matrix] if self.problem.shared else [])]
        lowers = self.problem.differentiated and name != "keep"
        mode = modes.lowering if lowers else modes.plain
        with nullcontext() if lowers else switched_off():
            fn = pytensor.function(self.inputs, outputs, mode=mode, on_unused_input="ignore")
        fn.trust_input = True
        return fn

    def comparable(self, outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs, square ones with their transpose added where the matrix is symmetric.

        A gradient by a symmetric matrix may be told by one of its triangles.
        """
        if not (self.problem.symmetric or self.problem.positive_definite):
            return list(outputs)
        n = self.problem.n
        return [a + np.swapaxes(a, -1, -2) if np.shape(a)[-2:] == (n, n) else a for a in outputs]

    def _answers(self, decision: Decision, name: str) -> list[Any]:
        """An answer to each request, of a log-determinant without its sign."""
        problem = self.problem
        if name == "keep":
            forms = {r.form for r in problem.requests}
            written = {form: AsWritten(self, form) for form in forms}
            solvers: list[Solver] = [written[r.form] for r in problem.requests]
        else:
            solvers = [self._solver(decision, name)] * len(problem.requests)
        asked = zip(solvers, problem.requests, self.rhs, strict=True)
        by_form = name == "keep"  # says already which requests are checked
        return [
            solver.answer(r.kind, b, r.transposed, r.checked and not by_form)[-1] for solver, r, b in asked
        ]

    def _solver(self, decision: Decision, name: str) -> Solver:
        problem = self.problem
        operator = self.operator if strategy(name).structured else Dense(self.matrix)
        facts = {"positive_definite": problem.positive_definite, "symmetric": problem.symmetric}
        if problem.differentiated:
            carried = replace(decision, before_autodiff=True)
            return RequestedSystem(operator, strategy=name, decision=carried, **facts)
        given = ("solve_rtol", "logdet_rtol", "condition_number", "max_iterations", "preconditioner")
        options = Options(**{key: getattr(decision, key) for key in given})
        kinds = frozenset(r.kind for r in problem.requests)
        system = System(operator, problem.positive_definite, problem.symmetric, problem.linker, kinds)
        return strategy(name).solver(system, options)

    def _gradients(self, answers) -> list[Any]:
        """Of a scalar that depends on every answer, if the problem is to be differentiated."""
        if not self.problem.differentiated:
            return []
        linear = ("logdet", "inv_quad")
        asked = zip(self.problem.requests, answers, strict=True)
        terms = [
            (a if r.kind in linear else a**2).sum() for r, a in asked if np.dtype(a.type.dtype).kind == "f"
        ]
        wrt = [*self.operator.parts, *(b for b in self.rhs if b is not None)]
        return pt.grad(sum(terms[1:], terms[0]), wrt, disconnected_inputs="ignore") if terms else []


def has_stand_in(problem: Problem) -> bool:
    """Whether the problem has a synthetic graph: all sizes known, and a structure with one."""
    return (
        not problem.unknown_sizes
        and set(problem.structure) in STRUCTURES
        and 0 not in problem.sizes.values()
        and problem.linker is not None
        and not (problem.differentiated and problem.asks("factor"))
    )


def stand_in(problem: Problem, condition_number: float | None = None) -> StandIn:
    """The problem as a graph of its own; the same values in every process.

    A dense matrix that is not given is a sum here, so that it may be overwritten as in the function. As for
    ``cholesky_or_lu``'s price it is positive definite, also where nobody tagged it, but not in batches.
    """
    draft = Draft(problem.dtype)
    n = known(problem.n)
    batch = () if problem.batch == 1 else (known(problem.batch),)
    zeros = draft.input("zeros", np.zeros(n))
    low_rank = problem.term.find("low_rank")
    if low_rank is not None:
        operator, dense = _diagonal_plus_low_rank(draft, low_rank, n, known(dict(low_rank.dims)["rank"]))
    else:
        general = problem.batch != 1 and not problem.symmetric
        value = _general(draft.rng, n) if general else _definite(draft.rng, n, condition_number or CONDITION)
        A = draft.input("A", np.broadcast_to(value, (*batch, n, n)))
        dense = A if problem.given else A + zeros[:, None]
        operator = Dense(dense)
    facts = {"positive_definite": problem.positive_definite, "symmetric": problem.symmetric}
    known_facts = {name: True for name, holds in facts.items() if holds}
    matrix = assume(dense, **known_facts) if known_facts else dense
    rhs = [
        draft.input("b", draft.rng.standard_normal((*batch, n, known(r.columns))))
        if r.kind in ("solve", "inv_quad")
        else None
        for r in problem.requests
    ]
    return StandIn(problem, operator, matrix, rhs, zeros, draft.inputs, draft.values)


@dataclass(eq=False)
class Draft:
    """Makes inputs of one dtype together with their values."""

    dtype: str
    inputs: list[Any] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def input(self, name: str, value: np.ndarray) -> Any:
        shape = tuple(1 if length == 1 else None for length in value.shape)
        self.values.append(np.array(value, dtype=self.dtype, order="C"))
        self.inputs.append(pt.tensor(name, shape=shape, dtype=self.dtype))
        return self.inputs[-1]


def _diagonal_plus_low_rank(draft: Draft, term: Term, n: int, k: int) -> tuple[Operator, Any]:
    """``diag(d) + U diag(c) V.T`` with ``c`` where its sign is not known, and V other than U where it is."""
    U = draft.input("U", draft.rng.standard_normal((n, k)) / math.sqrt(n))
    V = U
    if not term.fact("symmetric"):
        V = draft.input("V", draft.values[-1] + 0.1 * draft.rng.standard_normal((n, k)) / math.sqrt(n))
    c = None if term.fact("nonnegative_weights") else draft.input("c", draft.rng.uniform(0.5, 1.5, k))
    d = draft.input("d", MIDDLE * np.exp(draft.rng.uniform(-math.log(2), math.log(2), n)))
    operator = Sum((Diagonal(d), LowRank(U, c, V)))
    return operator, (U if c is None else U * c) @ V.T + pt.diag(d)


def _definite(rng: np.random.Generator, n: int, condition: float) -> np.ndarray:
    """``Q diag(e) Q`` with e geometric about ``MIDDLE``, and Q a reflection."""
    v = rng.standard_normal(n)
    v *= math.sqrt(2) / np.linalg.norm(v)
    e = MIDDLE * np.geomspace(condition**-0.5, condition**0.5, n)
    Qe = np.diag(e) - np.outer(v, v * e)
    found: np.ndarray = Qe - np.outer(Qe @ v, v)
    return (found + found.T) / 2


def _general(rng: np.random.Generator, n: int) -> np.ndarray:
    """A permutation and noise of norm about 1/2: well conditioned, and no row stays where it is."""
    noise = rng.standard_normal((n, n)) / (4 * math.sqrt(n))
    found: np.ndarray = MIDDLE * (np.eye(n)[rng.permutation(n)] + noise)
    return found


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
