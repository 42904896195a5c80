"""What is known of a matrix: PyTensor's assumptions, with two reservations.

A solve with ``assume_a="pos"`` promises something of its own matrix for itself: PyTensor takes the promise
for a fact about every other use, of which a general solve or a determinant of an indefinite matrix is wrong.
And PyTensor tags a Gram product ``X @ X.T`` positive definite, and sums and multiples of such, though they
are only semidefinite: their determinant is 0 or tiny where Cholesky gives NaN.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pytensor.assumptions import (
    LOWER_TRIANGULAR,
    ORTHOGONAL,
    POSITIVE_DEFINITE,
    SYMMETRIC,
    UPPER_TRIANGULAR,
    ConflictingAssumptionsError,
)
from pytensor.assumptions.core import AssumptionFeature, FactState
from pytensor.assumptions.specify import SpecifyAssumptions
from pytensor.graph.features import Feature
from pytensor.scalar import Add
from pytensor.tensor.basic import AllocDiag, Eye
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.linalg.solvers.linear_control import SolveBilinearDiscreteLyapunov
from pytensor.tensor.math import Dot

from autotune.algebra.host import features_of
from autotune.read.symmetry import Symmetry

# What PyTensor calls positive definite where it can only know semidefinite.
SEMIDEFINITE = (Dot, SolveBilinearDiscreteLyapunov)


class Declared(Feature):
    """What the user says of the variables of a graph, when PyTensor has removed the Ops that say it.

    PyTensor's own feature has these facts too, but beside what solves promise.
    """

    def __init__(self) -> None:
        self.facts: dict[Any, dict[Any, FactState]] = {}

    def on_attach(self, fgraph):
        for node in fgraph.apply_nodes:
            self.on_import(fgraph, node, "")

    def on_import(self, fgraph, node, reason):
        if isinstance(node.op, SpecifyAssumptions):
            self.facts[node.outputs[0]] = dict(node.op.assumptions)

    def on_change_input(self, fgraph, node, i, old, new, reason=None):
        if old in self.facts:
            self.facts[new] = self.facts.get(new, {}) | self.facts[old]

    def __getstate__(self):
        return {"facts": {}}  # a compiled function has no use for them


class Inference(AssumptionFeature):
    """PyTensor's inference on a graph that stays as it is, without what solves promise of their matrices."""

    def __init__(self, fgraph) -> None:
        self.on_attach(SimpleNamespace(clients={}))
        noted = next((f.facts for f in features_of(fgraph) if isinstance(f, Declared)), {})
        self.declared = {(var, key): state for var, facts in noted.items() for key, state in facts.items()}
        self.cache.update(self.declared)


class Facts:
    """Three-valued facts of ``fgraph``, of which only TRUE enables anything."""

    def __init__(self, fgraph) -> None:
        self.inference = Inference(fgraph)
        self.symmetry = Symmetry(self._is_known_symmetric)

    def positive_definite(self, matrix) -> bool:
        return self._tagged(matrix) or (self.holds(matrix, POSITIVE_DEFINITE) and self._strict(matrix))

    def symmetric(self, matrix) -> bool:
        if getattr(matrix.tag, "symmetric", False):
            return True
        return self._is_known_symmetric(matrix) or self.symmetry.holds(matrix)

    def _is_known_symmetric(self, matrix) -> bool:
        return self._tagged(matrix) or self.holds(matrix, SYMMETRIC)

    def structured(self, matrix) -> bool:
        """Triangular, diagonal or orthogonal: solved by PyTensor without a factorisation."""
        return any(self.holds(matrix, key) for key in (LOWER_TRIANGULAR, UPPER_TRIANGULAR, ORTHOGONAL))

    def _tagged(self, matrix) -> bool:
        return getattr(matrix.tag, "psd", None) is True

    def holds(self, matrix, key) -> bool:
        """Whether an assumption of PyTensor's is proven."""
        try:
            return self.inference.check(matrix, key)
        except (ConflictingAssumptionsError, ValueError):  # PyTensor 3.3 has one for a batch of identities
            return False

    def _strict(self, matrix) -> bool:
        """Whether a matrix that is at least semidefinite is definite: by what it is said to be, or made of.

        A sum with one definite term is; a product of scalars, an elementwise one, a block-diagonal or
        Kronecker matrix, an inverse, a transpose is if all of its matrices are. The rank of a Gram product is
        not known.
        """
        if self._tagged(matrix) or (matrix, POSITIVE_DEFINITE) in self.inference.declared:
            return True
        if matrix.owner is None:
            return True  # its values told
        op = getattr(matrix.owner.op, "core_op", matrix.owner.op)
        if isinstance(op, SEMIDEFINITE):
            return False
        if isinstance(op, Eye | AllocDiag):
            return True
        if isinstance(op, SpecifyAssumptions) and (POSITIVE_DEFINITE, FactState.TRUE) in op.assumptions:
            return True
        matrices = [i for i in matrix.owner.inputs if _is_matrix(i) and self.holds(i, POSITIVE_DEFINITE)]
        if isinstance(op, Elemwise) and isinstance(op.scalar_op, Add):
            return any(map(self._strict, matrices))
        return all(map(self._strict, matrices))


def _is_matrix(var) -> bool:
    return getattr(var.type, "ndim", 0) > 1 and not any(var.type.broadcastable[-2:])
