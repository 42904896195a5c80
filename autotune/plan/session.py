"""What is in force while autotune is enabled: policies, and the session that collects plans."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from autotune.plan import Plan

# Policies given to enable() and enabled(), the innermost last; empty when switched off.
enabled_policies: list = []
# Their example inputs, None where none were given.
enabled_examples: list = []
_open_session: ContextVar[Session | None] = ContextVar("autotune_session", default=None)
_switched_off: ContextVar[bool] = ContextVar("autotune_switched_off", default=False)


class Session:
    """``plans``: the plan of everything compiled while it was open, in order."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []

    def __enter__(self) -> Session:
        self._token = _open_session.set(self)
        return self

    def __exit__(self, *_) -> None:
        _open_session.reset(self._token)


def is_switched_off() -> bool:
    return _switched_off.get()


@contextmanager
def switched_off() -> Iterator[None]:
    """Every compile inside is PyTensor's own, whatever mode or policy a program asks for."""
    token = _switched_off.set(True)
    try:
        yield
    finally:
        _switched_off.reset(token)


def publish(plan: Plan) -> None:
    """Hand the plan of a compiled graph to the open session, if there is one."""
    session = _open_session.get()
    if session is not None:
        session.plans.append(plan)
