"""Sums of matrices of different kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from autotune.algebra.operator import KINDS, Operator, kind_of, rebuilt
from autotune.problem import Term, known
from cost_models import call


@dataclass(frozen=True, eq=False)
class Sum(Operator):
    """``A + B + ...`` of structured terms."""

    kind: ClassVar[str] = "sum"

    terms: tuple[Any, ...]

    @property
    def parts(self):
        return tuple(part for term in self.terms for part in term.parts)

    @property
    def symmetric(self):
        return all(term.symmetric for term in self.terms)

    @property
    def summands(self):
        return self.terms

    @property
    def signature(self):
        return (self.kind, *(term.signature for term in self.terms))

    @classmethod
    def rebuild(cls, signature, parts):
        return Sum(tuple(rebuilt(one, parts) for one in signature[1:]))

    @classmethod
    def axes(cls, signature, names):
        return [axes for one in signature[1:] for axes in kind_of(one[0]).axes(one, names)]

    @classmethod
    def example(cls, term, draft):
        equal = any(child.fact("orthonormal") for child in term.children)
        draft = replace(draft, equal_entries=True) if equal else draft
        return Sum(tuple(kind_of(child.kind).example(child, draft) for child in term.children))

    def dims(self):
        return {name: where for term in reversed(self.terms) for name, where in term.dims().items()}

    def term(self, size):
        return sum_term(*(term.term(size) for term in self.terms))

    @staticmethod
    def forming(term):
        parts = [c for child in term.children for c in kind_of(child.kind).forming(child)]
        return [*parts, call("stream", n=known(term.n) ** 2)]

    @staticmethod
    def unforming(term):
        parts = [c for child in term.children for c in kind_of(child.kind).unforming(child)]
        return [*parts, call("stream", n=known(term.n) ** 2)]

    @staticmethod
    def multiplying(term, columns):
        return [c for child in term.children for c in kind_of(child.kind).multiplying(child, columns)]

    @staticmethod
    def logdet_pullback(term, checked):
        asked = [r for child in term.children for r in kind_of(child.kind).logdet_pullback(child, checked)]
        return list(dict.fromkeys(asked))

    def matmul(self, x):
        return sum((term.matmul(x) for term in self.terms[1:]), self.terms[0].matmul(x))

    def rmatmul(self, x):
        return self.transpose().matmul(x)

    def diagonal(self):
        return sum((term.diagonal() for term in self.terms[1:]), self.terms[0].diagonal())

    def to_dense(self):
        return sum((term.to_dense() for term in self.terms[1:]), self.terms[0].to_dense())

    def transpose(self):
        return Sum(tuple(term.transpose() for term in self.terms))

    def scale(self, s):
        return Sum(tuple(term.scale(s) for term in self.terms))

    def pullback(self, cotangent):
        return [bar for term in self.terms for bar in term.pullback(cotangent)]


def sum_term(*terms: Term) -> Term:
    """The sum of matrices of one order, as plain data: what is known of one is known of all."""
    n = next((term.n for term in terms if term.n is not None), None)
    terms = terms if n is None else tuple(term.with_sizes({"n": n}) for term in terms)
    found = [term.fact("symmetric") for term in terms]
    symmetric = False if False in found else True if all(found) else None
    facts = () if symmetric is None else (("symmetric", symmetric),)
    return Term("sum", facts=facts, children=terms, order="same")


def sum_of(terms: Sequence[Any]) -> Any:
    """Gather terms into one of each kind, in the order of the registry, and a ``Sum`` if there are several.

    Raises ``TypeError`` for a term that is none of the operators: it would be lost.
    """
    found: list[Any] = []
    for cls in KINDS.values():
        alike = [term for term in terms if type(term) is cls]
        found += [cls.join(alike)] if len(alike) > 1 else alike
    strange = [term for term in terms if type(term) not in KINDS.values()]
    if strange:
        raise TypeError(f"Found {strange[0]!r} in a sum, which is no operator of the registry.")
    return found[0] if len(found) == 1 else Sum(tuple(found))
