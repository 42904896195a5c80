"""The factorisations that the pass writes, told apart from those it reads.

PyTensor's rewrites and linkers see a ``Cholesky`` or ``LUFactor`` as ever; the pass knows by the
class that this one is its own output, so that running it again changes nothing.
"""

from __future__ import annotations

from pytensor.tensor.linalg.decomposition.cholesky import Cholesky
from pytensor.tensor.linalg.decomposition.lu import LUFactor


class SharedCholesky(Cholesky):
    """``A = L L.T``, shared by all requests on ``A``; NaN when ``A`` is not positive definite."""


class SharedLU(LUFactor):
    """``A = P L U`` by partial pivoting, shared by all requests on ``A``."""
