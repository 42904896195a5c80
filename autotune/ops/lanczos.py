"""A log-determinant by stochastic Lanczos quadrature that refuses what it cannot do, and its gradient."""

from pytensor.graph.basic import Apply
from pytensor.tensor.basic import cast
from pytensor.tensor.type import tensor

from autotune.ops import core_lanczos
from autotune.ops._base import LinalgOp, as_real, check_ndims, ensure_numba_dispatch, merge_lengths
from autotune.ops.cg import integer, preconditioner_inputs, tolerance


class LanczosLogdet(LinalgOp):
    """``(log det A, error, probes, factor)`` for symmetric positive definite ``A`` (n, n).

    ``error`` bounds the log-determinant's error in 95 % of all cases, and is at most ``rtol |log det A|``.
    Where that takes more than ``max_steps`` products of A with blocks of 8 probes, the log-determinant is
    that of a Cholesky factorisation: then ``factor`` is its lower factor (NaN if there is none), error and
    probes are 0; else ``factor`` is empty (0, 0). Inputs: A, ``rtol``, ``max_steps``, ``seed`` (integers),
    and the outputs of a `PartialCholesky` of A if there is one. The result depends on the inputs only.
    Sources: Ubaru, Chen & Saad (2017); Gardner et al. (2018); Stein (1945) for the number of probes.
    """

    __props__ = ()

    def make_node(self, A, rtol, max_steps, seed, scale=None, U=None, s=None):
        ensure_numba_dispatch()
        [A] = as_real(self, (2,), A)
        dtype = A.type.dtype
        parts = preconditioner_inputs(self, dtype, () if scale is None else (scale, U, s))
        numbers = [tolerance(self, rtol), integer(self, "max_steps", max_steps), integer(self, "seed", seed)]
        outputs = [
            tensor("logdet", shape=(), dtype=dtype),
            tensor("error", shape=(), dtype=dtype),
            tensor("probes", shape=(), dtype="int64"),
            tensor("factor", shape=(None, None), dtype=dtype),
        ]
        return Apply(self, [A, *numbers, *parts], outputs)

    def perform(self, node, inputs, outputs):
        for storage, result in zip(outputs, core_lanczos.logdet_arrays(*inputs), strict=True):
            storage[0] = result


class LanczosInverse(LinalgOp):
    """An unbiased estimate of ``A^-1`` (n, n) by the probes of `LanczosLogdet`, for the gradient of that.

    Its trace has an error of at most ``rtol`` of it in 95 % of all cases; single entries are less accurate.
    Inputs: A, ``rtol``, ``solve_rtol`` of the conjugate gradients, ``max_iterations`` and ``seed``
    (integers), the outputs of a `PartialCholesky` of A or three times None, and ``factor``, from which the
    exact inverse is taken unless it is empty. Exact as well where ``max_iterations`` products of A with
    blocks of 8 vectors would not do. Source: Gardner et al. (2018), equation 4; the preconditioner is a
    control variate here.
    """

    __props__ = ()

    def make_node(self, A, rtol, solve_rtol, max_iterations, seed, scale, U, s, factor):
        ensure_numba_dispatch()
        [A] = as_real(self, (2,), A)
        dtype = A.type.dtype
        check_ndims(self, (2,), [factor])
        parts = preconditioner_inputs(self, dtype, () if scale is None else (scale, U, s))
        numbers = [tolerance(self, rtol), tolerance(self, solve_rtol)]
        numbers += [integer(self, "max_iterations", max_iterations), integer(self, "seed", seed)]
        n = merge_lengths(self, *A.type.shape)
        return Apply(
            self, [A, *numbers, *parts, cast(factor, dtype)], [tensor("Y", shape=(n, n), dtype=dtype)]
        )

    def infer_shape(self, node, shapes):
        return [shapes[0]]

    def perform(self, node, inputs, outputs):
        outputs[0][0] = core_lanczos.inverse_array(*inputs)
