"""Batches of the direct Ops under Numba: by `_batches`, in place of PyTensor's own loop."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numpy as np
from pytensor.link.numba.cache import compile_numba_function_src
from pytensor.link.numba.dispatch import blockwise as _theirs  # noqa: F401  registered before ours
from pytensor.link.numba.dispatch.basic import (
    numba_funcify_and_cache_key,
    numba_njit,
    register_funcify_and_cache_key,
)
from pytensor.tensor.blockwise import BlockwiseWithCoreShape

from autotune.ops import _batches
from autotune.ops._by_address import VERSION
from autotune.ops._layout import cast
from autotune.ops.cholesky_or_lu import CholeskyOrLU, CholeskyOrLUInverse, CholeskyOrLUSolve, FactorSlogdet
from autotune.ops.factor import SharedCholesky, SharedLU
from autotune.ops.inverse import CholeskyInverse, CholeskySolveMany, LUInverse


def _solve_of(op):
    transposed = op.transposed

    @numba_njit
    def solve_either(F, pivots, is_cholesky, B):
        return _batches.solve(F, pivots, is_cholesky, B, transposed)

    return solve_either


WHOLE: dict[type, Callable[[Any], Any]] = {
    SharedCholesky: lambda op: _batches.cholesky,
    SharedLU: lambda op: _batches.lu,
    CholeskyInverse: lambda op: _batches.inverse_from_cholesky,
    CholeskySolveMany: lambda op: _batches.solve_from_cholesky,
    LUInverse: lambda op: _batches.inverse_from_lu,
    CholeskyOrLU: lambda op: _batches.either,
    CholeskyOrLUSolve: _solve_of,
    CholeskyOrLUInverse: lambda op: _batches.inverse,
    FactorSlogdet: lambda op: _batches.slogdet,
}
"""What runs the batches of an Op."""
in_their_loop = numba_funcify_and_cache_key.dispatch(BlockwiseWithCoreShape)


@register_funcify_and_cache_key(BlockwiseWithCoreShape)
def funcify_batch(op, node, **kwargs):
    """By the functions of `_batches`; PyTensor's own loop for all other Ops, and for inputs that vary along
    some axes of the batch only."""
    [inner] = op.fgraph.apply_nodes
    core_op, axes = inner.op.core_op, inner.op.batch_ndim(inner)
    patterns = [x.type.broadcastable[:axes] for x in node.inputs[: len(inner.inputs)]]
    if type(core_op) not in WHOLE or axes == 0 or any(any(p) != all(p) for p in patterns):
        return in_their_loop(op, node, **kwargs)
    dtype = next(out.type.numpy_dtype for out in node.outputs if out.type.numpy_dtype.kind == "f")
    wanted = {2: dtype, 1: np.dtype(np.int32), 0: np.dtype(np.int8)}
    casts = (cast(x, wanted[len(core)]) for x, core in zip(node.inputs, inner.op.inputs_sig, strict=False))
    environment = {
        "whole": WHOLE[type(core_op)](core_op),
        "flat": _flat(axes),
        "shaped": _shaped(axes),
        "check_length": _check_length,
        **{f"cast{i}": function for i, function in enumerate(casts)},
    }
    lead = next((i for i, pattern in enumerate(patterns) if not any(pattern)), 0)
    source = _source(len(node.inputs), [all(p) for p in patterns], lead, len(node.outputs))
    key = (type(core_op), core_op._props_dict(), patterns, [x.type.dtype for x in node.inputs], VERSION)
    return (
        numba_njit(compile_numba_function_src(source, "batch", environment)),
        sha256(repr(key).encode()).hexdigest(),
    )


def _source(arguments, single, lead, outputs):
    """A function of the inputs and of PyTensor's core shapes, which are not needed; input number ``lead`` has
    the batch's axes, a ``single`` one serves all of it."""
    lines = [f"def batch({', '.join(f'x{i}' for i in range(arguments))}):"]
    lines += [f"y{i} = cast{i}(flat(x{i}))" for i in range(len(single))]
    lines += [f"check_length(y{i}, {1 if alone else f'len(y{lead})'})" for i, alone in enumerate(single)]
    found = ", ".join(f"found{i}" for i in range(outputs))
    lines.append(f"{found} = whole({', '.join(f'y{i}' for i in range(len(single)))})")
    lines.append("return " + ", ".join(f"shaped(found{i}, x{lead})" for i in range(outputs)))
    return "\n    ".join(lines)


@numba_njit
def _check_length(x, length):
    if len(x) != length:
        raise ValueError("The batches of an operation have different lengths, or one that broadcasts.")


def _flat(axes):
    """The axes of a batch as one."""
    if axes == 1:
        return numba_njit(lambda x: x)

    @numba_njit
    def flat(x):
        length = 1
        for i in range(axes):
            length *= x.shape[i]
        return np.ascontiguousarray(x).reshape((length, *x.shape[axes:]))

    return flat


def _shaped(axes):
    """Those of another array in the place of one."""
    if axes == 1:
        return numba_njit(lambda x, like: x)

    @numba_njit
    def shaped(x, like):
        return np.ascontiguousarray(x).reshape((*like.shape[:axes], *x.shape[1:]))

    return shaped
