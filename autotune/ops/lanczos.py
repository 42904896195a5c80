"""A log-determinant by stochastic Lanczos quadrature that refuses what it cannot do, and its gradient."""

import numpy as np
from pytensor.graph.basic import Apply
from pytensor.tensor.type import tensor

from autotune.ops import core_lanczos, core_lanczos_inverse
from autotune.ops._base import LinalgOp, ensure_numba_dispatch, merge_lengths
from autotune.ops.cg import (
    FACTOR,
    PRECONDITIONER,
    integer,
    matrix_inputs,
    optional,
    preconditioner_inputs,
    tolerance,
)

# Rank of what the log-determinant knows of the gradient's solves.
KRYLOV = (3,)


class LanczosLogdet(LinalgOp):
    """``(log det A, error, probes, factor, krylov)`` for symmetric positive definite ``A`` (n, n).

    ``error`` bounds the log-determinant's error in 95 % of all cases, and is at most ``rtol |log det A|``.
    Where that takes more than ``max_steps`` products of A with blocks of 8 probes, the log-determinant is
    that of the direct way, Cholesky, or Woodbury's identity where A is a diagonal and k < n columns: then
    ``factor`` is what `core_direct` describes (NaN if there is none), error and probes are 0; else ``factor``
    is empty (0, 0). ``krylov`` (3, m, n) is for `LanczosInverse`: the first ``m <= kept`` probes' solutions
    so far, their residuals and next directions; none where the log-determinant is exact. With ``kept > 0`` it
    is exact, too, where an estimate of the inverse would be poor: for a preconditioned matrix whose condition
    number is seen to be above 10, or by more than ``kept`` probes.

    Inputs: A, ``rtol``, ``max_steps``, ``seed`` (integers); and, None where absent, the outputs of a
    `PartialCholesky` of A; ``condition_number`` of the preconditioned matrix, at most, which bounds the error
    of the quadrature (infinite where unknown: then its least Ritz value does); ``kept`` (integer);
    ``(d, V, c)`` where the matrix is ``A + diag(d) + V diag(c) V'``, A then None where absent. The result
    depends on the inputs only. Sources: Ubaru, Chen & Saad (2017); Bai & Golub (1996) for the bounds; Stein
    (1945) for the number of probes.
    """

    __props__ = ()

    def make_node(
        self, A, rtol, max_steps, seed, scale=None, U=None, s=None, condition_number=np.inf, kept=0, *thin
    ):
        ensure_numba_dispatch()
        A, thin = matrix_inputs(self, A, thin)
        dtype = A.type.dtype
        parts = preconditioner_inputs(self, dtype, (scale, U, s))
        numbers = [tolerance(self, rtol), integer(self, "max_steps", max_steps), integer(self, "seed", seed)]
        outputs = [
            tensor("logdet", shape=(), dtype=dtype),
            tensor("error", shape=(), dtype=dtype),
            tensor("probes", shape=(), dtype="int64"),
            tensor("factor", shape=(None, None), dtype=dtype),
            tensor("krylov", shape=(3, None, length_of(self, A, thin)), dtype=dtype),
        ]
        others = [tolerance(self, condition_number), integer(self, "kept", kept)]
        return Apply(self, [A, *numbers, *parts, *others, *thin], outputs)

    def perform(self, node, inputs, outputs):
        for storage, result in zip(outputs, core_lanczos.logdet_arrays(*inputs), strict=True):
            storage[0] = result


def length_of(op, A, thin):
    """The static order of a matrix with these parts, None if it is not known."""
    d, V, _ = thin
    lengths = [length for length in (*A.type.shape, d.type.shape[0], V.type.shape[0]) if length]
    return merge_lengths(op, *lengths)


class _LanczosGradient(LinalgOp):
    """Inputs of what estimates ``A^-1`` by the probes of a `LanczosLogdet`: A, ``rtol``, ``solve_rtol`` of
    its solves, ``max_iterations`` and ``seed`` (integers); the outputs of a `PartialCholesky`, ``factor``,
    ``krylov`` and ``(d, V, c)`` as in `LanczosLogdet`, None where absent."""

    __props__ = ()

    def inputs_of(self, A, rtol, solve_rtol, max_iterations, seed, *rest):
        ensure_numba_dispatch()
        A, thin = matrix_inputs(self, A, rest[5:])
        others = optional(self, A.type.dtype, (*PRECONDITIONER, *FACTOR, *KRYLOV), rest[:5])
        numbers = [tolerance(self, rtol), tolerance(self, solve_rtol)]
        numbers += [integer(self, "max_iterations", max_iterations), integer(self, "seed", seed)]
        return [A, *numbers, *others, *thin], length_of(self, A, thin)


class LanczosInverse(_LanczosGradient):
    """An unbiased estimate of ``A^-1`` (n, n) by the probes of `LanczosLogdet`, for the gradient of that.

    Its trace has an error of at most ``rtol`` of it in 95 % of all cases; single entries are less accurate.
    Exact where ``krylov`` is empty, as the value is then, and where ``max_iterations`` products of A with
    blocks of 8 vectors would not do. The probes' Krylov spaces are continued from ``krylov`` on.
    Source: Gardner et al. (2018), equation 4; a multiple of the preconditioner is a control variate here.
    """

    def make_node(self, A, rtol, solve_rtol, max_iterations, seed, scale, U, s, factor, krylov=None, *thin):
        rest = (scale, U, s, factor, krylov, *thin)
        inputs, n = self.inputs_of(A, rtol, solve_rtol, max_iterations, seed, *rest)
        return Apply(self, inputs, [tensor("Y", shape=(n, n), dtype=inputs[0].type.dtype)])

    def infer_shape(self, node, shapes):
        # A, d or V: what is absent has length 0
        n = next(shapes[i][0] for i in (0, -3, -2) if node.inputs[i].type.shape[0] != 0)
        return [(n, n)]

    def perform(self, node, inputs, outputs):
        outputs[0][0] = core_lanczos_inverse.inverse_array(*inputs)


class LanczosInverseOfParts(_LanczosGradient):
    """``(diag(A^-1), A^-1 V)`` of `LanczosInverse` for ``A = diag(d) + V diag(c) V'``, which nothing n x n is
    made for: (n,) and (n, k). Exactly by Woodbury's identity where that is by Cholesky."""

    def make_node(self, rtol, solve_rtol, max_iterations, seed, scale, U, s, factor, krylov, d, V, c):
        rest = (scale, U, s, factor, krylov, d, V, c)
        inputs, n = self.inputs_of(None, rtol, solve_rtol, max_iterations, seed, *rest)
        dtype, columns = inputs[0].type.dtype, inputs[-2].type.shape[1]
        outputs = [tensor("diagonal", shape=(n,), dtype=dtype)]
        return Apply(self, inputs, [*outputs, tensor("columns", shape=(n, columns), dtype=dtype)])

    def infer_shape(self, node, shapes):
        return [shapes[-3], shapes[-2]]

    def perform(self, node, inputs, outputs):
        for storage, result in zip(outputs, core_lanczos_inverse.parts_arrays(*inputs), strict=True):
            storage[0] = result
