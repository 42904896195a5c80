"""The compiled function inside a callable: wrappers of PyMC and ptgp, partials, closures, methods, nested."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from inspect import getattr_static
from types import CellType, CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

from pytensor.compile.executor import Function


def compiled_function(fn: Any) -> Function:
    """The PyTensor function that ``fn`` is, or that its code reaches in the fewest steps.

    Nothing is called. Raises ``TypeError`` if there is none, or if several are equally near.
    """
    seen: dict[Any, Any] = {}
    level = [fn]
    while level:
        found = {id(held): held for held in level if isinstance(held, Function)}
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            raise TypeError(
                f"Found {_named(fn)}, which calls {len(found)} compiled PyTensor functions. Give one of them."
            )
        new = {_key(holder): holder for holder in level if _key(holder) not in seen}
        seen |= new
        level = [held for holder in new.values() for held in reached(holder)]
    raise TypeError(
        f"Found {_named(fn)}, which holds no compiled PyTensor function. "
        "Give the result of pytensor.function or of PyMC's compile_logp, compile_fn "
        "or logp_dlogp_function, or a callable that calls one."
    )


def _named(fn: Any) -> str:
    name = getattr(fn, "__name__", None)
    return type(fn).__name__ if name is None else f"{type(fn).__name__} {name!r}"


def _key(fn: Any) -> Any:
    """Methods are made anew by each look; everything else is itself."""
    return (id(fn.__self__), id(fn.__func__)) if isinstance(fn, MethodType) else id(fn)


def reached(fn: Any) -> Iterator[Any]:
    """The callables that a call of ``fn`` can reach in one step: by names in its code, and those it wraps."""
    if isinstance(fn, partial):
        yield from _callables([fn.func, *fn.args, *fn.keywords.values()])
    elif isinstance(fn, FunctionType):
        yield from _callables(_named_in(fn))
    elif isinstance(fn, MethodType) and isinstance(fn.__func__, FunctionType):
        yield from _callables(_named_in(fn.__func__, fn.__self__))
    else:
        call, wrapped = (getattr_static(fn, name, None) for name in ("__call__", "__wrapped__"))
        yield from _callables([wrapped])
        if isinstance(call, FunctionType):
            yield MethodType(call, fn)


def _callables(held: Iterable[Any]) -> Iterator[Any]:
    """Those of ``held`` that can be called and are no classes, and such in lists and dicts."""
    for one in held:
        inside = one.values() if isinstance(one, dict) else one if isinstance(one, list | tuple) else ()
        yield from (each for each in (one, *inside) if callable(each) and not isinstance(each, type))


def _named_in(fn: FunctionType, *owners: Any) -> list[Any]:
    """What ``fn`` is closed over, its defaults and attributes, the globals that its code names, and all
    attributes of these and of ``owners`` that it names.

    Functions of other modules are left out: a library reaches everything.
    """
    names = _names(fn.__code__)
    held = [*_cells(fn), *(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values(), *vars(fn).values()]
    held += [fn.__globals__[n] for n in names if n in fn.__globals__ and _is_near(fn.__globals__[n], fn)]
    looked = set()
    to_look = [*owners, *held]
    while to_look:
        holder = to_look.pop()
        if id(holder) not in looked and not isinstance(holder, (type, FunctionType, MethodType, Function)):
            looked.add(id(holder))
            found = [a for a in (_attribute(holder, name) for name in names) if a is not None]
            found = [a for a in found if not isinstance(holder, ModuleType) or _is_near(a, fn)]
            held += found
            to_look += found
    return held


def _names(code: CodeType) -> list[str]:
    """All names in ``code`` and in the functions that it defines."""
    inner = [name for held in code.co_consts if isinstance(held, CodeType) for name in _names(held)]
    return list(dict.fromkeys([*code.co_names, *inner]))


def _cells(fn: FunctionType) -> list[Any]:
    return [cell.cell_contents for cell in fn.__closure__ or () if cell != CellType()]


def _is_near(held: Any, fn: FunctionType) -> bool:
    return not isinstance(held, FunctionType) or held.__globals__ is fn.__globals__


def _attribute(holder: Any, name: str) -> Any:
    """The attribute ``name`` of ``holder``, None if it has none. A property is given as a method, not run."""
    found = getattr_static(holder, name, None)
    if isinstance(found, MemberDescriptorType):  # of __slots__
        return getattr(holder, name, None)
    if isinstance(found, property):
        return None if found.fget is None else MethodType(found.fget, holder)
    if isinstance(found, staticmethod):
        return found.__func__
    if isinstance(found, FunctionType) and name not in getattr(holder, "__dict__", {}):
        return MethodType(found, holder)
    return found
