"""What a matrix is called, where it comes from, and what it is made of: what a user can write in a rule."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pytensor.graph.basic import Constant
from pytensor.graph.features import Feature
from pytensor.scalar import Add
from pytensor.tensor.elemwise import CAReduce, Elemwise

LOGPROB = "_logprob"
# How PyMC names the sum of all terms.
WHOLE = "__logp"
STEPS = 400
# How many Ops up from a matrix tell it from others, and say where it was written.
DEPTH = 6
SOURCE_DEPTH = 3
COMMUTATIVE = ("Add", "Mul", "Maximum", "Minimum")
LIBRARIES = ("pytensor", "pymc", "autotune")
LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


def name_of(fgraph, matrix) -> str | None:
    """The matrix's own name, else ``<rv>_logprob``, the name of the PyMC term that it contributes to."""
    if matrix.name:
        return matrix.name
    rv = rv_of(fgraph, matrix)
    return None if rv is None else rv + LOGPROB


class TermNames(Feature):
    """Keeps the names of PyMC's terms on what these are rewritten to, which may have another name.

    The terms of a log-density are ``<rv>_logprob``, and the potentials that are added to them.
    """

    def on_attach(self, fgraph):
        addends = [var for out in fgraph.outputs for var in _addends(out)]
        if any(_term(var) for var in addends):
            for var in addends:
                if var.name and _term(var) is None:
                    var.tag.autotune_potential = var.name

    def on_change_input(self, fgraph, node, i, old, new, reason=None):
        for name, found in (("autotune_rv", _term), ("autotune_potential", _potential)):
            if new.owner and found(old) is not None and found(new) is None:
                setattr(new.tag, name, found(old))


def _addends(out) -> Iterator[Any]:
    """The named variables, or else the last ones, that ``out`` is the sum of."""
    summed = isinstance(out.owner_op, CAReduce | Elemwise) and isinstance(out.owner_op.scalar_op, Add)
    if summed and (not out.name or out.name.startswith(WHOLE)):
        for var in out.owner.inputs:
            yield from _addends(var)
    else:
        yield out


def _term(var) -> str | None:
    """The PyMC variable whose term ``var`` is."""
    name = var.name or ""
    if name.endswith(LOGPROB) and name != "_" + LOGPROB:
        return name.removesuffix(LOGPROB)
    return getattr(var.tag, "autotune_rv", None)


def _potential(var) -> str | None:
    """The PyMC potential that ``var`` is."""
    return getattr(var.tag, "autotune_potential", None)


def rv_of(fgraph, matrix) -> str | None:
    """The PyMC variable whose term ``<rv>_logprob`` the matrix contributes to, the nearest of several."""
    return next((rv for var in _terms_of(fgraph, matrix) if (rv := _term(var)) is not None), None)


def terms_of(fgraph, matrix) -> tuple[str, ...]:
    """All PyMC variables, and after them the potentials, whose terms the matrix contributes to."""
    found = list(_terms_of(fgraph, matrix))
    names = [{name for name in map(of, found) if name is not None} for of in (_term, _potential)]
    return tuple(name for some in names for name in sorted(some))


def _terms_of(fgraph, matrix) -> Iterator[Any]:
    """The terms downstream, and nothing beyond; the search is bounded, breadth first."""
    queue, seen = [matrix], {matrix}
    for var in queue:
        if len(seen) > STEPS:
            return
        for client, _ in fgraph.clients.get(var, ()):
            for out in client.outputs:
                if out in seen:
                    continue
                seen.add(out)
                if _term(out) is not None or _potential(out) is not None:
                    yield out
                else:
                    queue.append(out)


# -- source ---------------------------------------------------------------------------------------


def source_of(matrix) -> str | None:
    """``file.py:12``: the innermost line outside PyTensor, PyMC and autotune that made the matrix.

    A matrix that a library put together has the line of what it was made of: of the traces of its
    nearest ancestors the one with the fewest library frames inside the user's line counts.
    """
    folders = [Path(m.__file__).parent for m in map(sys.modules.get, LIBRARIES) if m and m.__file__]
    prefixes = tuple(f"{folder}/" for folder in folders)
    found = [f for var in _ancestors(matrix, SOURCE_DEPTH) for f in _user_lines(var, prefixes)]
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _ancestors(matrix, depth: int) -> Iterator[Any]:
    """The variable and what it was computed from, nearest first; inputs of the graph only if it is one."""
    level = [matrix]
    for _ in range(depth + 1):
        yield from level
        level = [i for var in level if var.owner for i in var.owner.inputs if i.owner]


def _user_lines(var, prefixes: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """For each trace of ``var``: library frames inside the user's line, and that line."""
    for trace in getattr(var.tag, "trace", None) or ():
        for inside, frame in enumerate(reversed(trace)):
            if not frame[0].startswith(prefixes):
                yield inside, f"{Path(frame[0]).name}:{frame[1]}"
                break


# -- fingerprint ----------------------------------------------------------------------------------


def fingerprint(parts: Iterable[Any], problem) -> str:
    """Eight letters for what is asked of which structure, computed by which Ops.

    ``parts``: the variables that the matrix is made of. Sizes, values and constants do not enter, so that
    other data, another machine and another process give the same; names of inputs do. Nor does what is known
    of the matrix: a pin is to be found, and refused, where its matrix is no longer positive definite.
    """
    asked = sorted(f"{r.kind} {r.columns == 1}" for r in problem.requests)
    kind = (problem.structure, problem.dtype, problem.differentiated, problem.rv)
    memo: dict[Any, str] = {}
    return _digest(*asked, *kind, *(_shape(part, DEPTH, memo) for part in parts))


def numbered(prints: Iterable[str]) -> Iterator[str]:
    """``kfbamdgc``, and for its next occurrences ``kfbamdgc#2``, ``kfbamdgc#3``."""
    count: Counter[str] = Counter()
    for text in prints:
        count[text] += 1
        yield text if count[text] == 1 else f"{text}#{count[text]}"


def _shape(var, depth: int, memo: dict[Any, str]) -> str:
    """A digest of the Ops above ``var``; the order of the terms of sums and products does not matter."""
    key = (var, depth)
    if key not in memo:
        memo[key] = _leaf(var) if var.owner is None or depth == 0 else _inner(var, depth, memo)
    return memo[key]


def _leaf(var) -> str:
    name = None if isinstance(var, Constant) or var.owner else var.name
    pattern = ["1" if one else "n" for one in getattr(var.type, "broadcastable", ())]
    return _digest(name, getattr(var.type, "dtype", ""), *pattern)


def _inner(var, depth: int, memo: dict[Any, str]) -> str:
    op = getattr(var.owner.op, "core_op", var.owner.op)
    name = _op_name(op)
    inputs = [_shape(i, depth - 1, memo) for i in var.owner.inputs]
    return _digest(name, var.owner.outputs.index(var), *(sorted(inputs) if name in COMMUTATIVE else inputs))


def _op_name(op) -> str:
    """The class of the Op; for elementwise ones that of the scalar Op."""
    return type(op.scalar_op if isinstance(op, Elemwise | CAReduce) else op).__name__


def _digest(*values: Any) -> str:
    """Eight letters from a to p: no fingerprint reads as a number where YAML stands."""
    digits = hashlib.sha256("\n".join(map(str, values)).encode()).hexdigest()[:8]
    return digits.translate(LETTERS)
