"""Plain data: one matrix, and everything that a graph demands of it.

Nothing here knows PyTensor, so that choosing is a pure function of sizes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from autotune.problem.spectrum import Spectrum
from autotune.problem.term import Term

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
GRADIENT_KINDS = ("logdet_pullback",)
"""What a gradient asks beside these: the cotangents of what a structure is made of, of ``log|det A|``."""


@dataclass(frozen=True)
class Request:
    """One thing demanded of a matrix ``A``.

    ``kind``: one of ``REQUEST_KINDS`` or ``GRADIENT_KINDS``. ``columns``: right-hand sides of a ``solve``
    (``A^-1 b``) or ``inv_quad`` (``b' A^-1 b`` per column), None when unknown. ``transposed``: with ``A.T``.
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

    ``rv``: the PyMC variable whose log-density it contributes to, ``terms`` all of them, and the potentials.
    ``source``: the line of the user's code,
    ``file.py:12``. ``fingerprint``: eight letters for its Ops, structure and requests, ``#2`` after them for
    the second such problem of a graph; the same in another process, on another machine, for other data.
    ``part``: the letter of a part of another matrix.
    """

    rv: str | None = None
    source: str | None = None
    fingerprint: str | None = None
    positive_definite: bool = False
    symmetric: bool = False
    part: str | None = None
    terms: tuple[str, ...] = ()

    def all_names(self, name: str | None) -> tuple[str | None, ...]:
        """What a matrix ``name`` goes by: one that is named after a term, after each of its terms."""
        after = name is not None and self.rv is not None and name == f"{self.rv}_logprob"
        return (name, *(f"{term}_logprob" for term in self.terms)) if after else (name,)


UNKNOWN = Traits()


@dataclass(frozen=True)
class Problem:
    """One matrix and its requests; sizes are None when unknown.

    ``term``: what the matrix is made of, its order and other dims. ``batch`` counts the matrices (1: no
    batch). ``shared``: the dense matrix is needed elsewhere in the graph, so that forming it costs every
    candidate the same. ``differentiated``: automatic differentiation is still to come, so its price counts.
    ``linker`` is the name of PyTensor's linker in force ("numba", "py", ...), None when unknown.
    ``rv``, ``terms``, ``source`` and ``fingerprint`` as in ``Traits``. ``spectrum``: what the user's code, a
    probe or the structure tells of the eigenvalues. ``inverse``: the preconditioner that the user gives, None
    if there is none. ``given``: the dense matrix is an input of the function or a constant, so that nothing
    may overwrite it. ``positive_definite``: it is, or all requests are checked, so that its Cholesky factor
    answers them. ``one_triangle``: it is not proven to be symmetric, and a factor of its lower triangle is
    asked for. ``part``: the letter of a part of another matrix.
    """

    requests: tuple[Request, ...]
    term: Term
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
    inverse: Term | None = None
    given: bool = False
    part: str | None = None
    terms: tuple[str, ...] = ()

    @property
    def n(self) -> int | None:
        return self.term.n

    @property
    def structure(self) -> tuple[str, ...]:
        """The kinds of what the matrix is the sum of, as a policy's ``structure`` writes them."""
        return self.term.names

    @property
    def traits(self) -> Traits:
        known = (self.positive_definite, self.symmetric)
        return Traits(self.rv, self.source, self.fingerprint, *known, self.part, self.terms)

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
    def sizes(self) -> dict[str, int | None]:
        """All dims of the matrix by name, and the number of matrices."""
        return {**self.term.sizes(), "batch": self.batch}

    @property
    def unknown_sizes(self) -> tuple[str, ...]:
        """Names of the dimensions whose size is not known."""
        names = [name for name, size in self.sizes.items() if size is None]
        if any(r.kind in ("solve", "inv_quad") and r.columns is None for r in self.requests):
            names.append("columns")
        return tuple(names)

    def with_sizes(self, **sizes: int) -> Problem:
        """The same problem with the unknown ones of its dims, ``batch`` and ``columns`` filled in."""
        columns = sizes.get("columns")
        requests = tuple(replace(r, columns=columns) if r.columns is None else r for r in self.requests)
        batch = sizes.get("batch") if self.batch is None else self.batch
        return replace(self, requests=requests, batch=batch, term=self.term.with_sizes(sizes))


def known(size: int | None) -> int:
    """A size, where work is counted: ``choose`` prices a problem only when all sizes are filled in."""
    if size is None:
        raise ValueError("Found an unknown size where work is counted. Fill it in by Problem.with_sizes.")
    return size
