"""What was read from a graph as plain problems, of which choosing is a pure function.

What probes matrices is imported where there are examples.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from autotune.evidence.bounds import bound
from autotune.problem import Problem
from autotune.read.naming import fingerprint, numbered, rv_of, source_of, terms_of


def told_apart(fgraph, found: list[tuple]) -> list[tuple]:
    """Pairs of a reading and its problem, now with what else identifies it: `autotune.problem.Traits`."""
    found = [(reading, replace(problem, **_origin(fgraph, reading))) for reading, problem in found]
    before = [_before(reading, "fingerprint") for reading, _ in found]
    unknown = (pair for pair, text in zip(found, before, strict=True) if text is None)
    prints = numbered(
        fingerprint(reading.operator.parts if reading.deferred else (reading.matrix,), problem)
        for reading, problem in unknown
    )
    return [
        (reading, replace(problem, fingerprint=next(prints) if text is None else text))
        for (reading, problem), text in zip(found, before, strict=True)
    ]


def _origin(fgraph, reading) -> dict[str, Any]:
    """The PyMC variables, the line of code, and the letter of a part that is decided by itself."""
    if not reading.deferred:
        of = {"rv": rv_of(fgraph, reading.matrix), "terms": terms_of(fgraph, reading.matrix)}
        return of | {"source": source_of(reading.matrix)}
    return {key: _before(reading, key) for key in ("rv", "source", "part")} | {
        "terms": _before(reading, "terms") or ()
    }


def _before(reading, key: str) -> str | None:
    """What identified the problem before autodiff where it is read from request Ops: pins find it by that."""
    return getattr(getattr(reading.decision, "problem", None), key, None)


def probed(found: list[tuple], policy, examples) -> list[tuple]:
    """Pairs of a reading and its problem, now with what the examples tell of its spectrum."""
    if policy.probe is False or (examples is None and not policy.probe):
        return found
    from autotune.evidence.probe import with_spectrum

    return [
        (reading, problem if reading.carried else with_spectrum(reading, problem, policy, examples))
        for reading, problem in found
    ]


def problem_of(reading, sizes, *, differentiated, linker):
    """The plain data of a reading."""
    operator = reading.operator
    term = _with_order(operator.term(sizes.of), _order(reading, sizes))
    requests = []
    for asked in reading.requests.values():
        columns = 1 if asked.rhs is None else sizes.of(asked.rhs, -1)
        requests.append(replace(asked.request, columns=columns))
    inverse = getattr(operator, "inverse", None)
    return Problem(
        requests=tuple(requests),
        term=term,
        dtype=reading.dtype,
        batch=_matrices(operator, sizes),
        positive_definite=reading.answered_by_factor,
        symmetric=reading.symmetric or reading.answered_by_factor,
        one_triangle=reading.one_triangle,
        shared=reading.shared,
        differentiated=differentiated,
        linker=linker,
        name=reading.name,
        spectrum=bound(operator, term),
        inverse=None if inverse is None else inverse.term(sizes.of),
        given=_is_given(operator.parts[0] if reading.matrix is None else reading.matrix),
    )


def _order(reading, sizes) -> int | None:
    """The length of the matrix, by itself or by the right-hand sides."""
    square = reading.square_matrix
    n = None if square is None else sizes.order(square)
    rows = (sizes.of(a.rhs, -2) for a in reading.requests.values() if a.rhs is not None)
    return next((length for length in (n, *rows) if length is not None), None)


def _with_order(term, n: int | None):
    """The term with the order that the whole matrix has, where it has one with its parts, each of the others
    with its own."""
    if term.order == "own" and (n is not None or term.kind == "dense"):
        return replace(term, dims=tuple((name, n if name == "n" else k) for name, k in term.dims))
    if term.order == "same":
        n = term.n if n is None else n
        return replace(term, children=tuple(_with_order(child, n) for child in term.children))
    if term.order not in ("own", "same"):
        return replace(term, children=tuple(_with_order(child, child.n) for child in term.children))
    return term


def _matrices(operator, sizes) -> int | None:
    """How many matrices there are, None if that is not known.

    Hints and present values may say one of what runs with several. What serves one takes no batch axes.
    """
    lengths = [sizes.of(*axis) for axis in operator.batch_axes]
    if None in lengths:
        return None
    return math.prod(lengths) if all(length == 1 for length in operator.batch) else max(math.prod(lengths), 2)


def _is_given(matrix) -> bool:
    """Whether it is not computed: an input or a constant, tagged or as a view."""
    from pytensor.assumptions import SpecifyAssumptions
    from pytensor.tensor.elemwise import DimShuffle

    while matrix.owner is not None and isinstance(matrix.owner.op, SpecifyAssumptions | DimShuffle):
        matrix = matrix.owner.inputs[0]
    return matrix.owner is None
