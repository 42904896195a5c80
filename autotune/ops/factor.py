"""The factorisations that the pass writes, told apart from those it reads.

PyTensor's rewrites and linkers see a ``Cholesky`` or ``LUFactor`` as ever; the pass knows by the
class that this one is its own output, so that running it again changes nothing.
"""

from __future__ import annotations

import numpy as np
from pytensor.tensor.basic import as_tensor_variable
from pytensor.tensor.linalg.decomposition.cholesky import Cholesky
from pytensor.tensor.linalg.decomposition.lu import LUFactor
from scipy.linalg import get_lapack_funcs

from autotune.ops._base import ensure_numba_dispatch, real_dtype
from autotune.ops.shapes import check_square
from cost_models import KernelCall, call


class SharedCholesky(Cholesky):
    """``A = L L.T``, shared by all requests on ``A``; NaN when ``A`` is not positive definite.

    Under Numba by the triangle that LAPACK is fastest on (`core_cholesky`); of real matrices only.
    """

    __props__ = ("overwrite_a",)

    def __init__(self, *, overwrite_a: bool = False):
        super().__init__(lower=True, overwrite_a=overwrite_a)

    def make_node(self, x):
        ensure_numba_dispatch()
        x = as_tensor_variable(x)
        real_dtype(self, x)
        return super().make_node(x)

    def perform(self, node, inputs, outputs):
        check_square(inputs[0])
        super().perform(node, inputs, outputs)

    def __reduce__(self):
        return _rebuild, (type(self), self.overwrite_a)

    @staticmethod
    def kernels(n, *, batched: bool = False) -> list[KernelCall]:
        return [call("batch_cholesky" if batched else "potrf", n=n)]


class SharedLU(LUFactor):
    """``A = P L U`` by partial pivoting (getrf), shared by all requests on ``A``.

    Unlike PyTensor's it keeps the factors of a singular matrix, whose determinant is then 0 and not NaN.
    """

    def __init__(self, *, overwrite_a: bool = False):
        super().__init__(overwrite_a=overwrite_a)
        self.destroy_map = {0: [0]} if overwrite_a else {}

    def make_node(self, A):
        ensure_numba_dispatch()
        return super().make_node(A)

    def __reduce__(self):
        return _rebuild, (type(self), self.overwrite_a)

    def perform(self, node, inputs, outputs):
        [A] = inputs
        check_square(A)
        if A.size == 0:
            outputs[0][0], outputs[1][0] = np.empty_like(A), np.empty(0, dtype="int32")
            return
        (getrf,) = get_lapack_funcs(("getrf",), (A,))
        outputs[0][0], outputs[1][0], _ = getrf(A, overwrite_a=self.overwrite_a)

    @staticmethod
    def kernels(n, *, batched: bool = False) -> list[KernelCall]:
        return [call("batch_lu" if batched else "getrf", n=n)]


def _rebuild(factorisation, overwrite_a: bool):
    ensure_numba_dispatch()
    return factorisation(overwrite_a=overwrite_a)
