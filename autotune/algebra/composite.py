"""Matrices that are put together from others, and how they are served by requests on those.

A reduction builds no algorithm. It asks each part for what the whole needs, and says what happens between:
the chooser decides every part by its own structure, facts and price. Nothing of it needs an Op, a pullback or
compiled code: before autodiff its parts are asked by request Ops, which differentiate themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import pullback

from autotune.algebra.operator import Operator, kind_of, rebuilt
from autotune.algebra.solver import Solver
from autotune.problem import Problem, Request, Term, known
from cost_models import KernelCall, call

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, eq=False)
class Part:
    """One of the matrices that another is made of, what is known of it, and its own name if it has one.

    ``written``: the matrix as a variable, where it was read from one and nothing has happened to it since.
    """

    operator: Any
    positive_definite: bool = False
    symmetric: bool = False
    name: str | None = None
    written: Any = None

    @property
    def signature(self) -> tuple[Any, ...]:
        return (self.operator.signature, self.positive_definite, self.symmetric, self.name)

    @property
    def matrix(self) -> Any:
        """The matrix itself: as it was written, which no structure makes faster than it is."""
        return self.operator.to_dense() if self.written is None else self.written

    def term(self, size) -> Term:
        term = self.operator.term(size)
        facts = dict(term.facts)
        if self.positive_definite:
            facts["positive_definite"] = True
        if self.symmetric:
            facts["symmetric"] = True
        return replace(term, facts=tuple(sorted(facts.items())), label=self.name)

    @classmethod
    def example(cls, term: Term, draft: Any) -> Part:
        operator = kind_of(term.kind).example(term, draft)
        definite, symmetric = (bool(term.fact(name)) for name in ("positive_definite", "symmetric"))
        return cls(operator, definite, symmetric, term.label)

    def scale(self, s) -> Part:
        return replace(self, operator=self.operator.scale(s), positive_definite=False, written=None)

    def transpose(self) -> Part:
        return replace(self, operator=self.operator.transpose(), written=None)


@dataclass(frozen=True, eq=False)
class Composite(Operator):
    """Base of operators that are made of other matrices, ``children``, all of them square.

    A subclass says how the order follows from theirs (``combines``, as in `autotune.problem.term.ORDERS`),
    and how it is read, formed, and served.
    """

    combines: ClassVar[str]

    children: tuple[Part, ...]

    @classmethod
    def read(cls, var: Any, part_of: Any) -> Composite | None:
        """The operator of a variable that is computed so, else None; ``part_of`` reads a matrix as a part of
        it, or gives None where that is not proven to be square. Products are read elsewhere
        (`autotune.read.chains`)."""
        return None

    @classmethod
    def of(cls, children: Sequence[Part | None]) -> Any:
        """The operator of parts, if all of them were read."""
        read = tuple(child for child in children if child is not None)
        return cls(read) if len(read) == len(children) else None

    # -- an operator ------------------------------------------------------------------------------------

    @property
    def parts(self):
        return tuple(part for child in self.children for part in child.operator.parts)

    @property
    def signature(self):
        return (self.kind, *(child.signature for child in self.children))

    @classmethod
    def rebuild(cls, signature, parts):
        return cls(tuple(Part(rebuilt(inside, parts), *known) for inside, *known in signature[1:]))

    @classmethod
    def axes(cls, signature, names):
        """Each part has an order of its own."""
        found = []
        for inside, *_ in signature[1:]:
            order = f"p{next(names)}"
            for axes in kind_of(inside[0]).axes(inside, names):
                found.append(",".join(order if axis == "n" else axis for axis in axes.split(",")))
        return found

    @classmethod
    def example(cls, term, draft):
        return cls(tuple(Part.example(child, draft) for child in term.children))

    def dims(self):
        return {
            f"{place}.{name}": where
            for place, child in enumerate(self.children)
            for name, where in child.operator.dims().items()
        }

    def term(self, size):
        children = tuple(child.term(size) for child in self.children)
        proven = {"positive_definite": self.positive_definite, "symmetric": self.symmetric}
        facts = tuple((fact, True) for fact, holds in proven.items() if holds)
        return Term(self.kind, facts=facts, children=children, order=self.combines)

    @property
    def symmetric(self):
        return all(child.symmetric or child.positive_definite for child in self.children)

    @property
    def positive_definite(self) -> bool:
        """Whether it is proven of all its children."""
        return all(child.positive_definite for child in self.children)

    @property
    def batch_axes(self):
        return []

    def diagonal(self):
        return pt.diagonal(self.to_dense())

    def matmul(self, x):
        return self.to_dense() @ x

    def rmatmul(self, x):
        return self.transpose().matmul(x)

    def pullback(self, cotangent):
        """By differentiating the dense form; each part apart, where two are one variable."""
        parts = [part.copy() for part in self.parts]
        dense = rebuilt(self.signature, list(parts)).to_dense()
        return pullback(dense, parts, cotangent.to_dense())

    def transpose(self):
        return type(self)(tuple(child.transpose() for child in self.children))

    @staticmethod
    def forming(term):
        inside = [c for child in term.children for c in kind_of(child.kind).forming(child)]
        return [*inside, call("stream", n=known(term.n) ** 2)]

    @staticmethod
    def unforming(term):
        inside = [c for child in term.children for c in kind_of(child.kind).unforming(child)]
        return [*inside, call("stream", n=known(term.n) ** 2, count=len(term.children))]

    # -- a reduction ------------------------------------------------------------------------------------

    @staticmethod
    def objection(problem: Problem) -> str | None:
        """Why its parts cannot serve a problem."""
        return None

    @staticmethod
    def asks(term: Term, request: Request, place: int) -> list[Request]:
        """What a request on the whole asks of the child at ``place``."""
        raise AttributeError("defines no reduction")

    @staticmethod
    def asks_if_checked(place: int) -> Request:
        """What tells of the child at ``place`` that the whole has no Cholesky factor."""
        return Request("is_positive_definite", checked=True)

    @staticmethod
    def between(term: Term, request: Request) -> list[KernelCall]:
        """The kernels between the answers of the parts and that of the whole."""
        raise AttributeError("defines no reduction")

    def solver(self, solvers: Sequence[Solver]) -> Solver:
        """Answers on the whole by those on the parts."""
        raise AttributeError(f"{type(self).__name__} defines no solver")

    def prepared(self, problem: Problem) -> Composite:
        """The same matrix of parts that have a Cholesky factor where the whole has one, if that counts."""
        return self


class OfOneOrder(Composite):
    """Base of those whose children have the order of the whole."""

    combines: ClassVar[str] = "same"

    @classmethod
    def axes(cls, signature, names):
        return [axes for inside, *_ in signature[1:] for axes in kind_of(inside[0]).axes(inside, names)]

    def dims(self):
        return {name: where for child in self.children for name, where in child.operator.dims().items()}

    @property
    def order(self):
        return self.children[0].operator.order


def sub_problems(problem: Problem) -> tuple[Problem, ...]:
    """The problem of each part."""
    kind, term = kind_of(problem.term.kind), problem.term
    return tuple(
        part_problem(problem, child, LETTERS[place % 26] * (1 + place // 26), _asked(kind, problem, place))
        for place, child in enumerate(term.children)
    )


def _asked(kind: Any, problem: Problem, place: int) -> tuple[Request, ...]:
    found = [r for request in problem.requests for r in kind.asks(problem.term, request, place)]
    if poisons(problem):
        found.append(kind.asks_if_checked(place))
    return tuple(dict.fromkeys(found))


def part_problem(problem: Problem, child: Term, letter: str, requests: tuple[Request, ...]) -> Problem:
    """The problem of one part, of which these are ``requests``."""
    proven = bool(child.fact("positive_definite"))
    if proven:
        requests = tuple(dict.fromkeys(replace(r, checked=False) for r in requests))
    definite = proven or all(r.checked for r in requests)
    symmetric = definite or bool(child.fact("symmetric"))
    requests = tuple(replace(r, form=_form(r, definite, symmetric)) for r in requests)
    name, fingerprint = (of and f"{of}.{letter}" for of in (problem.name, problem.fingerprint))
    return Problem(
        requests=tuple(dict.fromkeys(requests)),
        term=child,
        dtype=problem.dtype,
        batch=problem.batch,
        positive_definite=definite,
        symmetric=symmetric,
        one_triangle=not (proven or child.fact("symmetric")) and any(r.checked for r in requests),
        differentiated=problem.differentiated,
        linker=problem.linker,
        name=child.label or name,
        rv=problem.rv,
        terms=problem.terms,
        source=problem.source,
        fingerprint=fingerprint,
        part=letter,
    )


def _form(request: Request, definite: bool, symmetric: bool) -> str:
    """How PyTensor's own Ops answer it (`autotune.algebra.plain`)."""
    if request.kind == "solve":
        return "pos" if definite or request.checked else "sym" if symmetric else "gen"
    if request.kind in ("logdet", "determinant"):
        return "cholesky" if definite or request.checked else "lu"
    return "inverse" if request.kind in ("inverse", "inverse_diagonal") else "cholesky"


def poisons(problem: Problem) -> bool:
    """Whether NaN of one part must become NaN of the whole: it is asked for, and not proven to be none."""
    proven = all(child.fact("positive_definite") for child in problem.term.children)
    return problem.checked and not proven


def asks_for_factor(problem: Problem) -> bool:
    """Whether it counts which parts have a Cholesky factor."""
    return problem.checked or problem.asks("factor") or problem.asks("is_positive_definite")


class CompositeSolver(Solver):
    """Base of what answers by parts: ``solvers`` of ``children``, in their order.

    Where the whole has no Cholesky factor because one part has none, every checked answer is NaN, and so is
    its gradient: the answers are multiplied by 1 or NaN.
    """

    def __init__(self, children: Sequence[Part], solvers: Sequence[Solver]):
        self.children, self.solvers = tuple(children), tuple(solvers)
        self.orders = [child.operator.order for child in children]
        self.checked = False

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        asked = copy(self)
        asked.checked = checked
        found = super(CompositeSolver, asked).answer(kind, rhs, transposed)
        proven = all(child.positive_definite for child in self.children)
        if not checked or proven or kind == "is_positive_definite":
            return found
        factor = pt.switch(asked.is_positive_definite(), 1.0, np.nan)
        return [x * factor.astype(x.type.dtype) for x in found]

    def ask(self, place: int, kind: str, rhs: Any = None, transposed: bool = False) -> list[Any]:
        """The answer of one part."""
        checked = self.checked and not self.children[place].positive_definite
        return self.solvers[place].answer(kind, rhs, transposed, checked)

    def ask_all(self, kind: str) -> list[list[Any]]:
        """The answers of all parts."""
        return [self.ask(place, kind) for place in range(len(self.children))]

    def is_positive_definite(self):
        return reduce(pt.and_, [found for [found] in self.ask_all("is_positive_definite")])
