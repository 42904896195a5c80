"""From a decision to replacements: answers to requests, wired into the variables they replace."""

from __future__ import annotations

from dataclasses import replace
from graphlib import TopologicalSorter
from typing import Any

from pytensor.graph.traversal import toposort

from autotune.algebra.batch import Batch, EachOf
from autotune.algebra.dense import Dense
from autotune.algebra.operator import Operator
from autotune.algebra.requests import RequestedSystem
from autotune.algebra.solver import Solver
from autotune.choose import strategy
from autotune.choose.candidates import options_of
from autotune.problem import GRADIENT_KINDS
from autotune.read.views import drop_leading_ones
from autotune.strategies import System
from autotune.strategies.base import has_thin_cotangents


def lower(reading, decision, assignment) -> dict:
    """Answers to the requests of ``reading`` by the algorithms that ``assignment`` names for them."""
    system = System(
        reading.operator,
        reading.answered_by_factor,
        reading.symmetric or reading.answered_by_factor,
        decision.problem.linker,
        frozenset(asked.request.kind for asked in reading.requests.values()),
    )
    return _answers(reading, assignment, lambda name: answering(name, decision, system, reading.matrix))


def answering(name, decision, system, matrix=None) -> Solver:
    """What answers by one strategy; ``matrix``: the variable that the graph has for it, if it has one.

    What serves by parts gets what answers by the decisions for them.
    """
    chosen = strategy(name)
    if not chosen.structured:
        parts = system.operator.unmarked
        dense = replace(system, operator=_dense(system.operator, matrix))
        return OntoParts(chosen.solver(dense, options_of(decision)), parts)
    batch = system.operator.unmarked
    if isinstance(batch, Batch):
        return EachOf(
            batch, lambda one: answering(name, decision, replace(system, operator=one, in_batch=True))
        )
    if decision.parts and chosen.parts(decision.problem):
        operator = chosen.reduced(system.operator.unmarked, decision.problem)
        solvers = _part_solvers(operator.children, decision.parts)
        system = replace(system, operator=operator, solvers=solvers)
    return chosen.solver(system, options_of(decision))


class OntoParts(Solver):
    """What answers for a matrix that was formed, and gives the cotangents of what it was made of."""

    def __init__(self, solver: Solver, operator: Operator):
        self.solver, self.operator = solver, operator

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        if kind not in GRADIENT_KINDS:
            return self.solver.answer(kind, rhs, transposed, checked)
        [inverse] = self.solver.answer("inverse", None, False, checked)
        return self.operator.pullback(Dense(inverse.mT))


def _part_solvers(children, decisions) -> tuple[Solver, ...]:
    """What answers for each part; a matrix that occurs twice, as in ``A kron A``, is set up once.

    A part may be a function of what answers for those before it, of whose answers it is made.
    """
    made: dict[Any, Solver] = {}
    keys: list[Any] = []
    for child, decision in zip(children, decisions, strict=True):
        part = child([made[key] for key in keys]) if callable(child) else child
        key = (part.signature, part.operator.parts, decision.assignment, options_of(decision))
        keys.append(key)
        if key not in made:
            made[key] = _part_solver(part, decision)
    return tuple(made[key] for key in keys)


def _part_solver(part, decision) -> Solver:
    problem = decision.problem
    kinds = frozenset(r.kind for r in problem.requests)
    system = System(part.operator, problem.positive_definite, problem.symmetric, problem.linker, kinds)
    return assigned(decision, lambda name: answering(name, decision, system))


def _dense(operator, matrix) -> Dense:
    return Dense(operator.to_dense() if matrix is None else drop_leading_ones(matrix))


def defer(reading, decision) -> dict:
    """Answers by request Ops, which carry ``decision`` through automatic differentiation.

    One that is undecided is taken when they are lowered; until then the operator keeps its structure. What is
    served by parts becomes requests on them.
    """
    facts = {"positive_definite": reading.positive_definite, "symmetric": reading.symmetric}

    def solver(name):
        return requesting(name, decision, reading.operator, facts, reading.matrix)

    return _answers(reading, decision.assignment, solver)


def requesting(name, decision, operator, facts, matrix) -> Solver:
    """What answers by request Ops, which one strategy is to serve."""
    return _requested(name, decision, operator, replace(decision, before_autodiff=True), (), facts, matrix)


def _requested(name, decision, operator, carried, path, facts, matrix=None) -> Solver:
    """Request Ops on an operator, or on its parts, at their places ``path`` in the decision carried."""
    chosen = strategy(name)
    if decision.parts and chosen.parts(decision.problem):
        operator = chosen.reduced(operator.unmarked, decision.problem)
        solvers: list[Solver] = []
        for place, (child, own) in enumerate(zip(operator.children, decision.parts, strict=True)):
            part = child(solvers) if callable(child) else child
            known = {"positive_definite": part.positive_definite, "symmetric": part.symmetric}
            solvers.append(_requested_part(own, part.operator, carried, (*path, place), known))
        return chosen.solver(System(operator, solvers=tuple(solvers), before_autodiff=True, **facts), None)
    keeps_structure = decision.undecided or chosen.structured or has_thin_cotangents(decision.problem)
    return RequestedSystem(
        operator if keeps_structure else _dense(operator, matrix),
        strategy=None if decision.undecided else name,
        decision=carried,
        part=path,
        **facts,
    )


def _requested_part(decision, operator, carried, path, facts) -> Solver:
    return assigned(decision, lambda name: _requested(name, decision, operator, carried, path, facts))


class Assigned(Solver):
    """Answers each request by the solver of the strategy that a decision names for it."""

    def __init__(self, decision, solvers):
        asked = zip(decision.problem.requests, decision.assignment, strict=True)
        self.solvers = {(r.kind, r.transposed, r.checked): solvers[name] for r, name in asked}

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        return self.solvers[kind, transposed, checked].answer(kind, rhs, transposed, checked)


def assigned(decision, make_solver) -> Solver:
    """The one solver of a decision, or what answers by several."""
    solvers = {name: make_solver(name) for name in dict.fromkeys(decision.assignment)}
    return next(iter(solvers.values())) if len(solvers) == 1 else Assigned(decision, solvers)


def _answers(reading, assignment, make_solver) -> dict:
    """What stands for each placeholder of ``reading``; a right-hand side may hold earlier placeholders."""
    solvers: dict = {}
    answers: dict = {}
    for asked, name in zip(reading.requests.values(), assignment, strict=True):
        if name not in solvers:
            solvers[name] = make_solver(name)
        rhs = asked.rhs if asked.rhs is None else substitute([asked.rhs], answers)[0]
        request = asked.request
        built = solvers[name].answer(request.kind, rhs, request.transposed, request.checked)
        for placeholder, out in zip(asked.answers, built, strict=True):
            answers[placeholder] = placeholder.type.filter_variable(out, allow_convert=True)
    return answers


def wire(readings, answers, existing=()) -> list[tuple]:
    """The replacements of ``readings``, all answered, with ``answers`` in the place of placeholders.

    A replacement that needs the answers of another reading too is left out when that one has none.
    ``existing``: the variables of the graph, which hold no placeholders.
    """
    pairs = [
        (old, new)
        for reading in readings
        for old, new in reading.replacements.items()
        if all(other in readings for other in reading.needs.get(old, ()))
    ]
    values = [new for _, new in pairs]
    previous = None
    while values != previous:  # an answer of one reading may hold placeholders of another
        previous, values = values, substitute(values, answers, existing)
    return [(old, value) for (old, _), value in zip(pairs, values, strict=True)]


def check_order(outputs, replacements) -> None:
    """Raise ``CycleError`` if a variable would need itself once all ``replacements`` are made.

    PyTensor's rewrites never end on such a graph.
    """
    new = dict(replacements)
    TopologicalSorter({old: [value] for old, value in replacements}).prepare()

    def owner(var):
        while var in new:
            var = new[var]
        return var.owner

    needs: dict[Any, set] = {}
    queue = [owner(out) for out in outputs]
    while queue:
        node = queue.pop()
        if node is not None and node not in needs:
            needs[node] = {above for i in node.inputs if (above := owner(i)) is not None}
            queue += needs[node]
    TopologicalSorter(needs).prepare()


def substitute(variables, answers, existing=()) -> list:
    """``variables`` with the keys of ``answers`` replaced; what depends on none stays the same object."""
    new = dict(answers)
    for node in toposort(variables, blockers=(*existing, *answers)):
        if any(i in new for i in node.inputs):
            inputs = [new.get(i, i) for i in node.inputs]
            new.update(zip(node.outputs, node.clone_with_new_inputs(inputs).outputs, strict=True))
    return [new.get(v, v) for v in variables]
