"""The price of each whole function that a script compiles, taken while the script holds it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from autotune.plan import Plan
from autotune.plan.feature import plan_of
from autotune.report.explain import explain


@contextlib.contextmanager
def pricing() -> Iterator[list[tuple[Plan, Plan]]]:
    """The plan of each function compiled inside, as the session has it, and the same with its price.

    Lengths are those known when it is compiled: its arguments are not waited for.
    """
    from pytensor.compile.maker import FunctionMaker

    found: list[tuple[Plan, Plan]] = []
    create = FunctionMaker.create

    def priced_create(maker, *args, **kwargs):
        function = create(maker, *args, **kwargs)
        plan = plan_of(maker.fgraph)
        if plan is not None and plan.decisions:
            found.append((plan, replace(plan, price=explain(function).price)))
        return function

    FunctionMaker.create = priced_create
    try:
        yield found
    finally:
        FunctionMaker.create = create


def with_prices(plans: Sequence[Plan], found: Sequence[tuple[Plan, Plan]]) -> list[Plan]:
    """``plans`` with the prices that were found; that of a graph inside a function has none of its own."""
    priced = {id(plan): whole for plan, whole in found}
    return [priced.get(id(plan), plan) for plan in plans]
