"""A log-determinant by stochastic Lanczos quadrature that refuses what it cannot do."""

import numpy as np
from pytensor.graph.basic import Apply
from pytensor.tensor.type import tensor

from autotune.ops._base import ITERATIVE, Late, LinalgOp, ensure_numba_dispatch
from autotune.ops.cg import integer, matrix_inputs, preconditioner_inputs, tolerance

core_lanczos = Late("core_lanczos")


class LanczosLogdet(LinalgOp):
    """``(log det A, error, probes, factor)`` for symmetric positive definite ``A`` (n, n).

    ``error`` bounds the log-determinant's error in 95 % of all cases, and is at most ``rtol |log det A|``.
    Where that takes more than ``max_steps`` products of A with blocks of 8 probes, the log-determinant is
    that of the direct way, Cholesky, or Woodbury's identity where A is a diagonal and k < n columns: then
    ``factor`` is what `core_direct` describes (NaN if there is none), error and probes are 0; else ``factor``
    is empty (0, 0).

    Inputs: A, ``rtol``, ``max_steps``, ``seed`` (integers); and, None where absent, the outputs of a
    `PartialCholesky` of A; ``condition_number`` of the preconditioned matrix, at most, which bounds the error
    of the quadrature (infinite where unknown: then its least Ritz value does); ``(d, V, c)`` where the matrix
    is ``A + diag(d) + V diag(c) V'``, A then None where absent. The result depends on the inputs only.
    Sources: Ubaru, Chen & Saad (2017); Bai & Golub (1996) for the bounds; Stein (1945) for the number of
    probes.
    """

    __props__ = ()
    family = ITERATIVE

    def make_node(self, A, rtol, max_steps, seed, scale=None, U=None, s=None, condition_number=np.inf, *thin):
        ensure_numba_dispatch(self.family)
        A, thin = matrix_inputs(self, A, thin)
        dtype = A.type.dtype
        parts = preconditioner_inputs(self, dtype, (scale, U, s))
        numbers = [tolerance(self, rtol), integer(self, "max_steps", max_steps), integer(self, "seed", seed)]
        outputs = [
            tensor("logdet", shape=(), dtype=dtype),
            tensor("error", shape=(), dtype=dtype),
            tensor("probes", shape=(), dtype="int64"),
            tensor("factor", shape=(None, None), dtype=dtype),
        ]
        return Apply(self, [A, *numbers, *parts, tolerance(self, condition_number), *thin], outputs)

    def perform(self, node, inputs, outputs):
        for storage, result in zip(outputs, core_lanczos.logdet_arrays(*inputs), strict=True):
            storage[0] = result
