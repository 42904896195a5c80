"""What is known of a matrix's eigenvalues when a graph is compiled, as plain data.

Iterations are known from one of three origins: a condition number that is ``declared`` in the code
(`autotune.assume_condition_number`), a ``bound`` that the structure gives, as a number of distinct
eigenvalues, or a ``probe``,
conjugate gradients that were run on an example (`autotune.evidence.probe`). The origin is ``unknown`` where
examples were given that could not be used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

# Iterations that no budget allows: the tolerance is out of reach.
NEVER = 2**31
# The matrix that the user gives with `autotune.precondition`, beside the preconditioners of a policy.
GIVEN = ("given", None)


@dataclass(frozen=True)
class Convergence:
    """Conjugate gradients with one preconditioner on one example, with a random right-hand side.

    ``condition_number`` of the preconditioned matrix: the ratio of the extreme Ritz values, a lower bound.
    ``decades``: the iterations after which the relative residual was below 1e-1, 1e-2, ...; ``made``: those
    that were made. ``attainable``: the relative residual that rounding allows.
    """

    preconditioner: str
    rank: int | None
    condition_number: float
    decades: tuple[int, ...]
    made: int
    attainable: float = 0.0

    def reaches(self, rtol: float) -> bool:
        """Whether it was seen to converge to a relative residual of ``rtol``."""
        return self.attainable <= rtol and -math.log10(rtol) <= len(self.decades)

    def iterations(self, rtol: float) -> int:
        """Iterations to ``rtol``, linear between decades; where it was not reached those made: at least."""
        if rtol < self.attainable:
            return NEVER
        if not self.reaches(rtol):
            return self.made
        points, wanted = (0, *self.decades), -math.log10(rtol)
        whole = min(int(wanted), len(self.decades) - 1)
        return max(1, math.ceil(points[whole] + (wanted - whole) * (points[whole + 1] - points[whole])))


@dataclass(frozen=True)
class Spectrum:
    """What a declaration, a bound or a probe says of the iterations that conjugate gradients take.

    ``eigenvalues``: how many distinct ones there are at most. ``convergence``: one for each preconditioner
    that was tried. ``products`` and ``seconds``: what the probe cost, its products with the matrix and the
    time of all of it. ``condition_number``: the one declared, of the matrix or, where the user gives one, of
    the preconditioned matrix. ``unprobed``: why examples that were given could not be used.
    """

    origin: str
    eigenvalues: int | None = None
    convergence: tuple[Convergence, ...] = ()
    products: int = 0
    seconds: float = field(default=0.0, compare=False)
    condition_number: float | None = None
    unprobed: str = ""

    def under(self, preconditioner: str, rank: int | None) -> Convergence | None:
        """How the iteration converges with this preconditioner; None where that was not tried."""
        key = (preconditioner, rank)
        return next((c for c in self.convergence if (c.preconditioner, c.rank) == key), None)
