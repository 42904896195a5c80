"""Plain data: one matrix, and everything that a graph demands of it.

Nothing here knows PyTensor, so that choosing is a pure function of sizes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from autotune.problem.spectrum import Spectrum

REQUEST_KINDS = (
    "solve",
    "logdet",
    "determinant",
    "inverse",
    "inverse_diagonal",
    "inv_quad",
    "is_positive_definite",
    "factor",
)


@dataclass(frozen=True)
class Request:
    """One thing demanded of a matrix ``A``.

    ``kind``: one of ``REQUEST_KINDS``. ``columns``: right-hand sides of a ``solve`` (``A^-1 b``) or
    ``inv_quad`` (``b' A^-1 b`` per column), None when unknown. ``transposed``: the solve is with ``A.T``.
    ``form``: how PyTensor would compute it when left alone ("gen", "sym", "pos" for its solves; "cholesky"
    for idioms on a factor; "lu" for determinants; "inverse", for a solve too when the graph multiplies with
    an explicit inverse), which is what ``keep`` is priced by. ``checked``: it is asked of the Cholesky factor
    of the lower triangle, and is NaN (False for ``is_positive_definite``) where there is none.
    """

    kind: str
    columns: int | None = 1
    transposed: bool = False
    form: str = "gen"
    checked: bool = False


@dataclass(frozen=True)
class Traits:
    """What tells a matrix from others beside its name, structure and size; None and False: not known.

    ``rv``: the PyMC variable whose log-density it contributes to. ``source``: the line of the user's code,
    ``file.py:12``. ``fingerprint``: eight letters for its Ops, structure and requests, ``#2`` after them for
    the second such problem of a graph; the same in another process, on another machine, for other data.
    """

    rv: str | None = None
    source: str | None = None
    fingerprint: str | None = None
    positive_definite: bool = False
    symmetric: bool = False


UNKNOWN = Traits()


@dataclass(frozen=True)
class Problem:
    """One matrix of order ``n`` and its requests; sizes are None when unknown.

    ``structure`` names the terms of the matrix; ``rank`` is k of ``diag(d) + U diag(c) V.T`` and
    ``symmetric_terms`` whether V is U, ``nonnegative_weights`` whether ``c >= 0`` is proven.
    ``batch`` counts the matrices (1: no batch). ``shared``: the
    dense matrix is needed elsewhere in the graph, so that forming it costs every candidate the same.
    ``differentiated``: automatic differentiation is still to come, so its price counts.
    ``linker`` is the name of PyTensor's linker in force ("numba", "py", ...), None when unknown.
    ``rv``, ``source`` and ``fingerprint`` as in ``Traits``. ``spectrum``: what the user's code, a
    probe or the structure tells of the eigenvalues. ``inverse_columns``: those of the preconditioner that the
    user gives, the order if it is dense, 0 if it is diagonal, None if there is none. ``given``: the dense
    matrix is an input of the function or a constant, so that nothing may overwrite it.
    ``positive_definite``: it is, or all requests are checked, so that its Cholesky factor answers them.
    ``one_triangle``: it is not proven to be symmetric, and a factor of its lower triangle is asked for.
    """

    requests: tuple[Request, ...]
    n: int | None
    structure: tuple[str, ...] = ("dense",)
    rank: int | None = None
    symmetric_terms: bool = True
    nonnegative_weights: bool = True
    dtype: str = "float64"
    batch: int | None = 1
    positive_definite: bool = False
    symmetric: bool = False
    one_triangle: bool = False
    shared: bool = False
    differentiated: bool = False
    linker: str | None = "numba"
    name: str | None = None
    rv: str | None = None
    source: str | None = None
    fingerprint: str | None = None
    spectrum: Spectrum | None = None
    inverse_columns: int | None = None
    given: bool = False

    @property
    def traits(self) -> Traits:
        return Traits(self.rv, self.source, self.fingerprint, self.positive_definite, self.symmetric)

    @property
    def low_rank(self) -> bool:
        return "low_rank" in self.structure

    @property
    def itemsize(self) -> int:
        return 4 if self.dtype == "float32" else 8

    def asks(self, kind: str) -> bool:
        return any(r.kind == kind for r in self.requests)

    @property
    def checked(self) -> bool:
        """Whether some request is NaN where the matrix has no Cholesky factor."""
        return any(r.checked for r in self.requests)

    def only(self, requests: Iterable[Request]) -> Problem:
        return replace(self, requests=tuple(requests))

    @property
    def unknown_sizes(self) -> tuple[str, ...]:
        """Names of the dimensions whose size is not known."""
        names = [name for name in ("n", "batch") if getattr(self, name) is None]
        if self.low_rank and self.rank is None:
            names.append("rank")
        if any(r.kind in ("solve", "inv_quad") and r.columns is None for r in self.requests):
            names.append("columns")
        return tuple(names)

    def with_sizes(self, **sizes: Any) -> Problem:
        """The same problem with unknown ``n``, ``rank``, ``batch``, ``columns`` filled in."""
        columns = sizes.pop("columns", None)
        requests = tuple(replace(r, columns=columns) if r.columns is None else r for r in self.requests)
        return replace(self, requests=requests, **sizes)


def known(size: int | None) -> int:
    """A size, where work is counted: ``choose`` prices a problem only when all sizes are filled in."""
    if size is None:
        raise ValueError("Found an unknown size where work is counted. Fill it in by Problem.with_sizes.")
    return size


def with_backward(problem: Problem, *, structured: bool) -> Problem:
    """The problem after autodiff through request Ops: a request's pullback is made of requests.

    A solve's needs one transposed solve; a quadratic form's a solve; a log-determinant's the
    inverse of a dense operator, or, of a structured one, the diagonal of the inverse and a solve
    with the low-rank columns.
    """
    if not problem.differentiated:
        return problem
    extra: list[Request] = []
    for r in problem.requests:
        if r.kind == "solve":
            extra.append(replace(r, transposed=not r.transposed))
        elif r.kind == "inv_quad":
            extra.append(Request("solve", r.columns, checked=r.checked))
        elif r.kind in ("logdet", "determinant") and structured:
            extra.append(Request("inverse_diagonal", checked=r.checked))
            extra.append(Request("solve", problem.rank, checked=r.checked))
        elif r.kind in ("logdet", "determinant", "inverse", "inverse_diagonal"):
            extra.append(Request("inverse", checked=r.checked))
    return problem.only([*problem.requests, *dict.fromkeys(extra)])
