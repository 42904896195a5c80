"""A matrix that is put together from others, served by requests on those: one strategy a structure."""

from __future__ import annotations

from autotune.algebra.composite import Composite, sub_problems
from autotune.algebra.guarded_solver import DirectSolver, WhereItHolds
from autotune.problem import REQUEST_KINDS, Problem, known
from autotune.strategies.base import No, Strategy, Work, dense_bytes, times

# The kernels between the answers of parts, and again for the cotangents on both sides of them.
WITH_GRADIENT = 3


class PartsStrategy(Strategy):
    """Exact as its parts are, each decided by its own structure, facts and price.

    ``work`` counts what happens between their answers.
    """

    provides = frozenset(REQUEST_KINDS)
    batched = False
    structured = True

    def __init__(self, structure: type[Composite]):
        self.name = structure.kind  # type: ignore[misc]
        self.structure = structure

    def concerns(self, problem):
        return problem.structure == (self.name,)

    def objects_to(self, problem, options):
        if not self.concerns(problem):
            return No(f"the matrix is not {self.name.replace('_', ' ')}")
        if problem.one_triangle:
            return No(
                "its parts are not known to be symmetric, and the graph may give but one triangle of it"
            )
        objection = self.structure.objection(problem)
        return None if objection is None else No(objection)

    def parts(self, problem):
        return sub_problems(problem)

    def reduced(self, operator, problem):
        return operator.prepared(problem)

    def work(self, problem: Problem, options) -> Work:
        calls = [c for r in problem.requests for c in self.structure.between(problem.term, r)]
        columns = sum(known(r.columns) for r in problem.requests if r.kind in ("solve", "inv_quad"))
        formed = any(problem.asks(kind) for kind in ("inverse", "factor"))
        held = 3 * known(problem.n) * columns * problem.itemsize + (dense_bytes(problem, 2) if formed else 0)
        return Work(times(WITH_GRADIENT if problem.differentiated else 1, calls), held)

    def solver(self, system, options):
        solver, guard = system.operator.solver(system.solvers), getattr(system.operator, "guard", None)
        if guard is None:
            return solver
        direct = DirectSolver(guard.matrix, system.positive_definite, system.symmetric)
        inputs = (*guard.inputs, guard.matrix)
        return WhereItHolds(solver, direct, guard.condition, inputs, system.before_autodiff)
