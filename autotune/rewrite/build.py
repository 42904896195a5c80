"""From a decision to replacements: answers to requests, wired into the variables they replace."""

from __future__ import annotations

from dataclasses import replace
from graphlib import TopologicalSorter
from types import SimpleNamespace
from typing import Any

from pytensor.graph.traversal import toposort

from autotune.algebra.operators import Dense
from autotune.algebra.requests import RequestedSystem
from autotune.choose import strategy
from autotune.problem import Options
from autotune.read.matrices import drop_leading_ones


def lower(reading, decision, assignment) -> dict:
    """Answers to the requests of ``reading`` by the algorithms that ``assignment`` names for them."""
    options = Options(
        solve_rtol=decision.solve_rtol,
        condition_number=decision.condition_number,
        max_iterations=decision.max_iterations,
        preconditioner=decision.preconditioner,
        logdet_rtol=decision.logdet_rtol,
    )

    def system(name):
        return _system(reading, name, decision.problem.linker)

    return _answers(reading, assignment, lambda name: strategy(name).solver(system(name), options))


def defer(reading, decision) -> dict:
    """Answers by request Ops, which carry ``decision`` through automatic differentiation.

    One that is undecided is taken when they are lowered; until then the operator keeps its structure.
    """
    carried = replace(decision, before_autodiff=True)
    undecided = decision.undecided

    def solver(name):
        system = _system(reading, name, decision.problem.linker)
        return RequestedSystem(
            reading.operator if undecided else system.operator,
            positive_definite=reading.positive_definite,
            symmetric=reading.symmetric,
            strategy=None if undecided else name,
            decision=carried,
        )

    return _answers(reading, decision.assignment, solver)


def _system(reading, name, linker):
    """The operator in the form in which the strategy wants it, with its facts."""
    operator = reading.operator
    if not strategy(name).structured and reading.matrix is not None:
        operator = Dense(drop_leading_ones(reading.matrix))
    return SimpleNamespace(
        operator=operator,
        positive_definite=reading.answered_by_factor,
        symmetric=reading.symmetric or reading.answered_by_factor,
        linker=linker,
        kinds=frozenset(asked.request.kind for asked in reading.requests.values()),
    )


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
