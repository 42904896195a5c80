"""What the code tells of the eigenvalues of a matrix, whatever the numbers are."""

from __future__ import annotations

from pytensor.graph.basic import Constant
from pytensor.tensor.basic import Alloc
from pytensor.tensor.elemwise import DimShuffle, Elemwise

from autotune.algebra.diagonal import Diagonal
from autotune.algebra.symmetric_parts import parts_of
from autotune.problem import Term
from autotune.problem.spectrum import Spectrum


def bound(operator, term: Term) -> Spectrum | None:
    """What the user declares of the matrix in the code, else what its structure says.

    ``s I + U diag(c) U'`` with U (n, k) has at most k + 1 distinct eigenvalues: n - k of them are s.
    In exact arithmetic conjugate gradients take as many iterations (Hestenes & Stiefel 1952).
    """
    declared = getattr(operator, "condition_number", None)
    if declared is not None:
        return Spectrum("declared", condition_number=declared)
    parts, n = parts_of(term), term.n
    uniform = [t for t in operator.summands if isinstance(t, Diagonal) and is_uniform(t.d)]
    if len(operator.summands) != 2 or not uniform or parts.has_dense:
        return None
    if n is None or parts.columns is None or parts.columns >= n:
        return None
    return Spectrum("bound", eigenvalues=parts.columns + 1)


def is_uniform(vector) -> bool:
    """Whether all entries are provably the same."""
    if all(vector.type.broadcastable):
        return True
    if isinstance(vector, Constant):
        return vector.data.size > 0 and bool((vector.data == vector.data.flat[0]).all())
    match vector.owner_op_and_inputs:
        case (Alloc(), value, *_):
            return is_uniform(value)
        case (Elemwise(), *inputs):
            return all(is_uniform(i) for i in inputs)
        case (DimShuffle(), inner):
            return is_uniform(inner)
    return False
