"""Iterative solves that check themselves, and what they are preconditioned with."""

import numpy as np
from pytensor.graph.basic import Apply
from pytensor.tensor.basic import as_tensor_variable, cast, constant
from pytensor.tensor.type import tensor

from autotune.ops._base import (
    ITERATIVE,
    Late,
    LinalgOp,
    as_real,
    check_ndims,
    ensure_numba_dispatch,
    merge_lengths,
)

core_cg, core_preconditioner = Late("core_cg"), Late("core_preconditioner")

# Ranks of the parts of a matrix beside the dense one, and of all of them; see `core_operator`.
THIN_PARTS = (1, 2, 1)
PARTS = (2, *THIN_PARTS)
# Of a `PartialCholesky`, of a factor, and of the inputs of `BlockCG` after its numbers.
PRECONDITIONER, FACTOR = (1, 2, 1), (2,)
REST = (*PRECONDITIONER, *FACTOR, *THIN_PARTS, *PARTS)


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


def optional(op, dtype, ndims, parts):
    """Checked ``parts`` of these ranks; None for one that is left out, ``()`` for all."""
    given = parts or (None,) * len(ndims)
    variables = [
        nothing(dtype, ndim) if part is None else part for part, ndim in zip(given, ndims, strict=True)
    ]
    check_ndims(op, ndims, variables)
    return [cast(variable, dtype) for variable in variables]


def preconditioner_inputs(op, dtype, parts):
    """Checked outputs of `PartialCholesky`; ``()`` stands for the identity."""
    return optional(op, dtype, PRECONDITIONER, parts)


class PartialCholesky(LinalgOp):
    """``(scale, U, s)`` of the preconditioner ``P = D^1/2 (I + U diag(s) U') D^1/2 ~ A``, scale ``D^-1/2``.

    Inputs: A (n, n); ``rank`` (integer scalar): -1 for none (empty parts), 0 for Jacobi's diagonal, r > 0
    for at most r columns of the pivoted Cholesky factor of ``A - noise I``, and the diagonal that is left;
    and, if given, ``(d, V, c)`` for ``A + diag(d) + V diag(c) V'``, A and others of these None where absent.
    About 10 n r^2 flops; of the matrix only its diagonal and r rows are read.
    Sources: Harbrecht, Peters & Schneider (2012); Gardner et al. (2018).
    """

    __props__ = ()
    family = ITERATIVE

    def make_node(self, A, rank, *thin):
        ensure_numba_dispatch(self.family)
        A, thin = matrix_inputs(self, A, thin)
        dtype = A.type.dtype
        outputs = [tensor("scale", shape=(None,), dtype=dtype), tensor("U", shape=(None, None), dtype=dtype)]
        outputs.append(tensor("s", shape=(None,), dtype=dtype))
        return Apply(self, [A, integer(self, "rank", rank), *thin], outputs)

    def perform(self, node, inputs, outputs):
        for storage, part in zip(outputs, core_preconditioner.build_arrays(*inputs), strict=True):
            storage[0] = part


def matrix_inputs(op, A, thin):
    """``A`` and ``(d, V, c)`` of one floating-point dtype; what is absent is empty."""
    given = [part for part in (A, *thin) if part is not None]
    if not given:
        raise TypeError(f"{op} got no part of a matrix. Give the dense, the diagonal or the low-rank one.")
    dtype = as_real(op, tuple(as_tensor_variable(part).type.ndim for part in given), *given)[0].type.dtype
    [A] = optional(op, dtype, (2,), (A,))
    return A, optional(op, dtype, THIN_PARTS, thin)


class BlockCG(LinalgOp):
    """``(A^-1 B, iterations, factor)`` by conjugate gradients, for symmetric positive definite ``A`` (n, n)
    and ``B`` (n, m).

    2 n^2 m flops an iteration. Inputs: A, B, ``rtol`` (scalar), ``max_iterations`` (integer scalar); and, if
    given, the outputs of a `PartialCholesky` of A, and the ``factor`` of another such node, which makes
    iterating unnecessary unless it is empty; ``(d, V, c)`` where the matrix is
    ``A + diag(d) + V diag(c) V'``, which is never formed while iterating (4 n k m flops for V); and
    ``(S, e, W, g)``, a preconditioner ``S + diag(e) + W diag(g) W' ~ A^-1`` that the user knows. A and all of
    these are None where absent.

    On return every column has a true residual ``|b - A x| <= rtol |b|``. If that takes more than
    ``max_iterations`` iterations, or is seen to (convergence is judged from a third of them on), the columns
    that are left are solved directly: by Cholesky, or by Woodbury's identity where the matrix is a diagonal
    and k < n columns. Then ``iterations`` is ``-1 - used``, and ``factor`` what `core_direct` describes, else
    empty (0, 0). An A that is not positive definite gives NaN, as in PyTensor.
    Source: Hestenes & Stiefel (1952).
    """

    __props__ = ()
    family = ITERATIVE

    def make_node(self, A, B, rtol, max_iterations, *rest):
        """``rest``: scale, U, s, factor, d, V, c, S, e, W, g; those at the end may be left out."""
        ensure_numba_dispatch(self.family)
        rest = (*rest, *(None,) * (len(REST) - len(rest)))
        A, thin = matrix_inputs(self, A, rest[4:7])
        A, B = as_real(self, (2, 2), A, B)
        dtype = B.type.dtype
        others = optional(self, dtype, REST, (*rest[:4], *thin, *rest[7:]))
        d, V = others[4:6]
        lengths = [length for length in (*A.type.shape, *d.type.shape, V.type.shape[0]) if length]
        n = merge_lengths(self, *lengths, B.type.shape[0])
        outputs = [
            tensor("X", shape=(n, B.type.shape[1]), dtype=dtype),
            tensor("iterations", shape=(), dtype="int64"),
            tensor("factor", shape=(None, None), dtype=dtype),
        ]
        numbers = [tolerance(self, rtol), integer(self, "max_iterations", max_iterations)]
        return Apply(self, [A, B, *numbers, *others], outputs)

    def perform(self, node, inputs, outputs):
        for storage, result in zip(outputs, core_cg.block_cg_arrays(*inputs), strict=True):
            storage[0] = result
