"""From a decision to replacements: answers to requests, wired into the variables they replace."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from pytensor.graph.replace import graph_replace

from autotune.choose import Options, strategy
from autotune.operators import Dense
from autotune.recognise import drop_leading_ones
from autotune.request_ops import RequestedSystem


def lower(reading, decision, assignment) -> list[tuple]:
    """Replacements by the algorithms that ``assignment`` names for the requests of ``reading``."""
    options = Options(
        solve_rtol=decision.solve_rtol,
        condition_number=decision.condition_number,
        max_iterations=decision.max_iterations,
    )
    return _wire(reading, assignment, lambda name: strategy(name).solver(_system(reading, name), options))


def defer(reading, decision) -> list[tuple]:
    """Replacements by request Ops, which carry ``decision`` through automatic differentiation."""
    carried = replace(decision, before_autodiff=True)

    def solver(name):
        system = _system(reading, name)
        return RequestedSystem(
            system.operator,
            positive_definite=reading.positive_definite,
            symmetric=reading.symmetric,
            strategy=name,
            decision=carried,
        )

    return _wire(reading, decision.assignment, solver)


def _system(reading, name):
    """The operator in the form in which the strategy wants it, with its facts."""
    operator = reading.operator
    if not strategy(name).structured and reading.matrix is not None:
        operator = Dense(drop_leading_ones(reading.matrix))
    return SimpleNamespace(
        operator=operator, positive_definite=reading.positive_definite, symmetric=reading.symmetric
    )


def _wire(reading, assignment, make_solver) -> list[tuple]:
    """Answer the requests in the order of reading: later right-hand sides may use earlier answers."""
    solvers: dict = {}
    answers: dict = {}
    for asked, name in zip(reading.requests.values(), assignment, strict=True):
        if name not in solvers:
            solvers[name] = make_solver(name)
        rhs = asked.rhs if asked.rhs is None else _substitute([asked.rhs], answers)[0]
        built = solvers[name].answer(asked.request.kind, rhs, asked.request.transposed)
        for placeholder, out in zip(asked.answers, built, strict=True):
            answers[placeholder] = placeholder.type.filter_variable(out, allow_convert=True)
    old = list(reading.replacements)
    new = _substitute([reading.replacements[var] for var in old], answers)
    return list(zip(old, new, strict=True))


def _substitute(variables, answers):
    return graph_replace(variables, answers, strict=False) if answers else variables
