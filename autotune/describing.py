"""What was read from a graph as plain problems, of which choosing is a pure function."""

from __future__ import annotations

import sys
from dataclasses import replace


def told_apart(fgraph, found: list[tuple]) -> list[tuple]:
    """Pairs of a reading and its problem, now with what else identifies it: `autotune.problem.Traits`."""
    from autotune.reading.naming import fingerprint, numbered

    found = [(reading, replace(problem, **_origin(fgraph, reading))) for reading, problem in found]
    prints = numbered(
        fingerprint(reading.operator.parts if reading.deferred else (reading.matrix,), problem)
        for reading, problem in found
    )
    return [
        (reading, replace(problem, fingerprint=text))
        for (reading, problem), text in zip(found, prints, strict=True)
    ]


def _origin(fgraph, reading) -> dict[str, str | None]:
    """The PyMC variable and the line of code; for what is read from request Ops those of its decision."""
    from autotune.reading.naming import rv_of, source_of

    if not reading.deferred:
        return {"rv": rv_of(fgraph, reading.matrix), "source": source_of(reading.matrix)}
    before = getattr(reading.decision, "problem", None)
    return {key: getattr(before, key, None) for key in ("rv", "source")}


def probed(found: list[tuple], policy, examples) -> list[tuple]:
    """Pairs of a reading and its problem, now with what the examples tell of its spectrum."""
    if policy.probe is False or (examples is None and not policy.probe):
        return found
    from autotune.probing.probe import with_spectrum

    return [
        (reading, problem if reading.carried else with_spectrum(reading, problem, policy, examples))
        for reading, problem in found
    ]


def problem_of(reading, sizes, *, differentiated, linker):
    """The plain data of a reading."""
    from autotune.facts import nonnegative
    from autotune.operators import LowRank
    from autotune.probing.bounds import bound
    from autotune.problem import Problem

    operator = reading.operator
    part = operator.parts[0]
    square = reading.square_matrix
    named = part if square is None else square
    low_rank = next((t for t in getattr(operator, "terms", ()) if isinstance(t, LowRank)), None)
    rank = None if low_rank is None else sizes.of(low_rank.U, 1)
    n = sizes.of(named, 0) if square is None else sizes.order(square)
    if n is None:
        rows = (sizes.of(a.rhs, -2) for a in reading.requests.values() if a.rhs is not None)
        n = next((length for length in rows if length is not None), None)
    requests = []
    for asked in reading.requests.values():
        columns = 1 if asked.rhs is None else sizes.of(asked.rhs, -1)
        requests.append(replace(asked.request, columns=columns))
    batch: int | None = 1
    if reading.batched:
        for axis in range(part.ndim - 2):
            length = sizes.of(part, axis)
            batch = None if batch is None or length is None else batch * length
    return Problem(
        requests=tuple(requests),
        n=n,
        structure=operator.structure,
        rank=rank,
        symmetric_terms=low_rank is None or low_rank.symmetric,
        nonnegative_weights=low_rank is None or low_rank.c is None or nonnegative(low_rank.c),
        dtype=reading.dtype,
        batch=batch,
        positive_definite=reading.answered_by_factor,
        symmetric=reading.symmetric or reading.answered_by_factor,
        one_triangle=reading.one_triangle,
        shared=reading.shared,
        differentiated=differentiated,
        linker=linker,
        name=reading.name,
        spectrum=bound(operator, n, rank),
        inverse_columns=_columns(getattr(operator, "inverse", None), sizes),
        given=_is_given(named),
    )


def _is_given(matrix) -> bool:
    """Whether it is not computed: an input or a constant, tagged or as a view."""
    from pytensor.assumptions import SpecifyAssumptions
    from pytensor.tensor.elemwise import DimShuffle

    while matrix.owner is not None and isinstance(matrix.owner.op, SpecifyAssumptions | DimShuffle):
        matrix = matrix.owner.inputs[0]
    return matrix.owner is None


def _columns(inverse, sizes) -> int | None:
    """How many columns a product with the user's preconditioner reads; those of a matrix if not known."""
    from autotune.operators import Dense, LowRank

    if inverse is None:
        return None
    for term in getattr(inverse, "terms", (inverse,)):
        if isinstance(term, Dense | LowRank):
            columns = sizes.of(term.parts[0], 1)
            return sys.maxsize if columns is None else columns
    return 0
