"""Iterative solves that check themselves, and what they are preconditioned with."""

import numpy as np
from pytensor.graph.basic import Apply
from pytensor.tensor.basic import as_tensor_variable, cast, constant
from pytensor.tensor.type import tensor

from autotune.ops import core_cg, core_preconditioner
from autotune.ops._base import LinalgOp, as_real, check_ndims, ensure_numba_dispatch, merge_lengths


def integer(op, name, value):
    """A scalar variable int64; TypeError for anything but an integer."""
    variable = as_tensor_variable(value)
    check_ndims(op, (0,), [variable])
    if variable.type.numpy_dtype.kind not in "iu":
        raise TypeError(f"{op} got {name} of dtype {variable.type.dtype}. It must be an integer.")
    return cast(variable, "int64")


def tolerance(op, value):
    """A scalar variable float64."""
    variable = as_tensor_variable(value)
    check_ndims(op, (0,), [variable])
    return cast(variable, "float64")


def nothing(dtype, ndim):
    """An input that is left out."""
    return constant(np.zeros((0,) * ndim, dtype))


def preconditioner_inputs(op, dtype, parts):
    """Checked outputs of `PartialCholesky`; ``()`` stands for the identity."""
    scale, U, s = parts or (nothing(dtype, 1), nothing(dtype, 2), nothing(dtype, 1))
    check_ndims(op, (1, 2, 1), [scale, U, s])
    return [cast(part, dtype) for part in (scale, U, s)]


class PartialCholesky(LinalgOp):
    """``(scale, U, s)`` of the preconditioner ``P = D^1/2 (I + U diag(s) U') D^1/2 ~ A``, scale ``D^-1/2``.

    Inputs: A (n, n), and ``rank`` (integer scalar): -1 for none (empty parts), 0 for Jacobi's diagonal, r > 0
    for at most r columns of the pivoted Cholesky factor of ``A - noise I``, and the diagonal that is left.
    About 10 n r^2 flops. Sources: Harbrecht, Peters & Schneider (2012); Gardner et al. (2018).
    """

    __props__ = ()

    def make_node(self, A, rank):
        ensure_numba_dispatch()
        [A] = as_real(self, (2,), A)
        inputs = [A, integer(self, "rank", rank)]
        dtype = A.type.dtype
        outputs = [tensor("scale", shape=(None,), dtype=dtype), tensor("U", shape=(None, None), dtype=dtype)]
        return Apply(self, inputs, [*outputs, tensor("s", shape=(None,), dtype=dtype)])

    def perform(self, node, inputs, outputs):
        for storage, part in zip(outputs, core_preconditioner.build_arrays(*inputs), strict=True):
            storage[0] = part


class BlockCG(LinalgOp):
    """``(A^-1 B, iterations, factor)`` by conjugate gradients, for symmetric positive definite ``A`` (n, n)
    and ``B`` (n, m).

    2 n^2 m flops an iteration. Inputs: A, B, ``rtol`` (scalar), ``max_iterations`` (integer scalar); and, if
    given, the outputs of a `PartialCholesky` of A, and the ``factor`` of another such node, which makes
    iterating unnecessary unless it is empty. On return every column has a true residual
    ``|b - A x| <= rtol |b|``. If that takes more than ``max_iterations`` iterations, or is seen to
    (convergence is judged from a third of them on), the columns that are left are solved by Cholesky,
    ``iterations`` is ``-1 - used``, and ``factor`` the lower factor, else empty (0, 0). An A that has none
    gives NaN, as in PyTensor. Source: Hestenes & Stiefel (1952).
    """

    __props__ = ()

    def make_node(self, A, B, rtol, max_iterations, scale=None, U=None, s=None, factor=None):
        ensure_numba_dispatch()
        A, B = as_real(self, (2, 2), A, B)
        dtype = B.type.dtype
        parts = preconditioner_inputs(self, dtype, () if scale is None else (scale, U, s))
        factor = nothing(dtype, 2) if factor is None else cast(factor, dtype)
        n = merge_lengths(self, *A.type.shape, B.type.shape[0])
        outputs = [
            tensor("X", shape=(n, B.type.shape[1]), dtype=dtype),
            tensor("iterations", shape=(), dtype="int64"),
            tensor("factor", shape=(None, None), dtype=dtype),
        ]
        numbers = [tolerance(self, rtol), integer(self, "max_iterations", max_iterations)]
        return Apply(self, [A, B, *numbers, *parts, factor], outputs)

    def perform(self, node, inputs, outputs):
        for storage, result in zip(outputs, core_cg.block_cg_arrays(*inputs), strict=True):
            storage[0] = result
