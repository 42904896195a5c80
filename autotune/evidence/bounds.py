"""What the code tells of the eigenvalues of a matrix, whatever the numbers are."""

from __future__ import annotations

from pytensor.graph.basic import Constant
from pytensor.tensor.basic import Alloc
from pytensor.tensor.elemwise import DimShuffle, Elemwise

from autotune.algebra.operators import Diagonal, LowRank
from autotune.problem.spectrum import Spectrum


def bound(operator, n: int | None, rank: int | None) -> Spectrum | None:
    """What the user declares of the matrix in the code, else what its structure says.

    ``s I + U diag(c) U'`` with U (n, k) has at most k + 1 distinct eigenvalues: n - k of them are s.
    In exact arithmetic conjugate gradients take as many iterations (Hestenes & Stiefel 1952).
    """
    declared = getattr(operator, "condition_number", None)
    if declared is not None:
        return Spectrum("declared", condition_number=declared)
    terms = getattr(operator, "terms", ())
    uniform = [t for t in terms if isinstance(t, Diagonal) and is_uniform(t.d)]
    thin = [t for t in terms if isinstance(t, LowRank) and t.symmetric]
    if len(terms) != 2 or not uniform or not thin or n is None or rank is None or rank >= n:
        return None
    return Spectrum("bound", eigenvalues=rank + 1)


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
