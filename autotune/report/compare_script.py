"""A script's functions against plain PyTensor, timed on the inputs of the script's own calls.

The script runs twice, the second time with autotune switched off and only until the last function that is
compared has been compiled. The functions of both runs belong together by the order in which they are made.
"""

from __future__ import annotations

import contextlib
import copy
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from autotune.plan import Plan
from autotune.plan.feature import compiled_plan
from autotune.plan.session import switched_off
from autotune.report.demo.compare import Case, Comparison, compare
from autotune.report.explain import explain

NO_COUNTERPART = "the script made another function in its place when it ran without autotune"


class Enough(BaseException):
    """Ends the second run of a script: nothing that follows is needed."""


@dataclass
class Recorded:
    """A function that a script has compiled, and the arguments of its first call, None before it."""

    function: Any
    arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    @property
    def plan(self) -> Plan:
        return compiled_plan(self.function.maker.fgraph) or Plan()

    @property
    def types(self) -> list[Any]:
        return [spec.variable.type for spec in self.function.maker.inputs]


@dataclass(frozen=True)
class Measured:
    """One function with its plan: the comparison, or why there is none."""

    plan: Plan
    comparison: Comparison | None
    why_not: str = ""


@contextlib.contextmanager
def recording(at_most: int | None = None) -> Iterator[list[Recorded]]:
    """Note each function that is compiled inside, not those that PyTensor makes for its own use.

    Raises ``Enough`` as soon as there are ``at_most``.
    """
    from pytensor.compile.executor import Function
    from pytensor.compile.maker import FunctionMaker

    recorded: list[Recorded] = []
    uncalled: dict[int, Recorded] = {}
    depth = [0]
    create, call = FunctionMaker.create, Function.__call__

    def noted_create(maker, *args, **kwargs):
        with _deeper(depth):
            function = create(maker, *args, **kwargs)
        if depth[0] == 0:
            recorded.append(Recorded(function))
            uncalled[id(function)] = recorded[-1]
            if len(recorded) == at_most:
                raise Enough
        return function

    def noted_call(function, *args, **kwargs):
        if depth[0] == 0 and id(function) in uncalled:
            uncalled.pop(id(function)).arguments = copy.deepcopy((args, kwargs))
        with _deeper(depth):
            return call(function, *args, **kwargs)

    FunctionMaker.create, Function.__call__ = noted_create, noted_call
    try:
        yield recorded
    finally:
        FunctionMaker.create, Function.__call__ = create, call


@contextlib.contextmanager
def _deeper(depth: list[int]) -> Iterator[None]:
    depth[0] += 1
    try:
        yield
    finally:
        depth[0] -= 1


def compare_script(tuned: Sequence[Recorded], run: Callable[[], None], seconds: float) -> list[Measured]:
    """Compare those of ``tuned`` that have a plan with those of a ``run`` without autotune."""
    chosen = [i for i, entry in enumerate(tuned) if entry.plan.decisions or entry.plan.inner]
    called = [i for i in chosen if tuned[i].arguments is not None]
    plain = _plainly(run, max(called) + 1) if called else []
    return [_measured(tuned[i], plain[i] if i < len(plain) else None, seconds) for i in chosen]


def _plainly(run: Callable[[], None], count: int) -> list[Recorded]:
    """The first ``count`` functions of a run without autotune, which prints nothing; fewer if it fails."""
    nowhere = io.StringIO()
    with (
        switched_off(),
        recording(count) as recorded,
        contextlib.suppress(Enough, Exception, SystemExit),
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        run()
    return recorded


def _measured(tuned: Recorded, plain: Recorded | None, seconds: float) -> Measured:
    plan = explain(tuned.function, tuned.arguments[0] if tuned.arguments else ())
    if tuned.arguments is None:
        return Measured(plan, None, "never called")
    if plain is None or plain.types != tuned.types:
        return Measured(plan, None, NO_COUNTERPART)
    args, kwargs = tuned.arguments
    as_called, as_plain = (partial(_outputs, f.function, kwargs) for f in (tuned, plain))
    case = Case(as_plain, as_called, args, plan)
    try:
        return Measured(plan, compare("", case, seconds))
    except Exception as error:
        return Measured(plan, None, f"{type(error).__name__} when called again: {error}")


def _outputs(function: Any, kwargs: dict[str, Any], *args: Any) -> list[Any]:
    """What a function returns, as a list; its arguments are its own, for it may write to them."""
    found = function(*args, **kwargs)
    return found if isinstance(found, list) else [found]


def forgetting(folder: Path, run: Callable[[], None]) -> Callable[[], None]:
    """``run`` after the modules of ``folder`` were dropped, so that their functions are compiled again."""
    prefix = f"{folder.resolve()}/"

    def again() -> None:
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(prefix) and name != "__main__":
                del sys.modules[name]
        run()

    return again
