"""Operations on vectors under Numba, behind the names of `kernels`: loops that the compiler vectorises."""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic, overload

from autotune.ops import kernels

# Sums may be reassociated, so that they vectorise; NaN and infinity keep their meaning.
FAST = {"fastmath": {"reassoc", "contract"}}


@overload(kernels.dot, jit_options=FAST)
def _dot(x, y):
    def dot(x, y):
        total = 0.0
        for i in range(x.size):
            total += np.float64(x[i]) * np.float64(y[i])
        return total

    return dot


@overload(kernels.copy_to)
def _copy_to(x, out):
    def copy_to(x, out):
        for i in range(x.size):
            out[i] = x[i]

    return copy_to


@overload(kernels.axpby, jit_options=FAST)
def _axpby(a, x, b, y):
    def axpby(a, x, b, y):
        first, second = y.dtype.type(a), y.dtype.type(b)
        for i in range(x.size):
            y[i] = first * x[i] + second * y[i]

    return axpby


@overload(kernels.multiply)
def _multiply(x, y):
    def multiply(x, y):
        for i in range(x.size):
            y[i] *= x[i]

    return multiply


@overload(kernels.multiply_add, jit_options=FAST)
def _multiply_add(x, y, out):
    def multiply_add(x, y, out):
        for i in range(x.size):
            out[i] += x[i] * y[i]

    return multiply_add


# -- short rows --------------------------------------------------------------------------------------
# LLVM unrolls its loops over vectors so far that short rows are left to the loop over single numbers. These
# are written as they are to run, with vectors of WIDTH numbers.

WIDTH = 4
CONTRACT = ("contract", "reassoc")


def _row(context, builder, matrix, value, row):
    """The address of a row of a C-ordered matrix."""
    array = context.make_array(matrix)(context, builder, value)
    stride = cgutils.unpack_tuple(builder, array.strides, 2)[0]
    return cgutils.pointer_add(builder, array.data, builder.mul(row, stride))


def _load(builder, start, position, width):
    """A number, or so many as a vector, and their address."""
    address = builder.gep(start, [position])
    if width > 1:
        address = builder.bitcast(address, ir.VectorType(start.type.pointee, width).as_pointer())
    return builder.load(address, align=_bytes(start)), address


def _bytes(pointer):
    return 4 if isinstance(pointer.type.pointee, ir.FloatType) else 8


def _spread(builder, number, width):
    if width == 1:
        return number
    vector = builder.insert_element(
        ir.Constant(ir.VectorType(number.type, width), ir.Undefined), number, ir.IntType(32)(0)
    )
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(ir.IntType(32), width), None))


def _in_vectors(builder, first, last, step):
    """``step(position, width)`` from ``first`` to ``last``: by vectors, then by what is left over."""
    length = builder.sub(last, first)
    short = builder.icmp_signed("<", length, length.type(WIDTH))
    whole = builder.and_(length, length.type(-WIDTH))
    middle = builder.select(short, first, builder.add(first, whole))
    for start, stop, width in ((first, middle, WIDTH), (middle, last, 1)):
        with cgutils.for_range_slice(builder, start, stop, start.type(width)) as (position, _):
            step(position, width)


def _subtract_rows(context, builder, types_, values, scales):
    X, r, _, T, k, first, last = values
    x = _row(context, builder, types_[0], X, r)
    rows = [
        _row(context, builder, types_[3], T, builder.add(k, k.type(offset))) for offset in range(len(scales))
    ]
    spread = {width: [_spread(builder, scale, width) for scale in scales] for width in (1, WIDTH)}

    def step(position, width):
        total, address = _load(builder, x, position, width)
        for row, scale in zip(rows, spread[width], strict=True):
            product = builder.fmul(scale, _load(builder, row, position, width)[0], flags=CONTRACT)
            total = builder.fsub(total, product, flags=CONTRACT)
        builder.store(total, address, align=_bytes(x))

    _in_vectors(builder, first, last, step)
    return context.get_dummy_value()


@intrinsic
def _subtract(typing_context, X, r, scale, T, k, first, last):
    def codegen(context, builder, signature, args):
        return _subtract_rows(context, builder, signature.args, args, [args[2]])

    return types.void(X, types.intp, X.dtype, T, types.intp, types.intp, types.intp), codegen


@intrinsic
def _subtract_four(typing_context, X, r, scales, T, k, first, last):
    def codegen(context, builder, signature, args):
        numbers = cgutils.unpack_tuple(builder, args[2], 4)
        return _subtract_rows(context, builder, signature.args, args, numbers)

    four = types.UniTuple(X.dtype, 4)
    return types.void(X, types.intp, four, T, types.intp, types.intp, types.intp), codegen


@intrinsic
def _row_dot(typing_context, X, r, T, k, first, last):
    def codegen(context, builder, signature, args):
        matrix, other = signature.args[0], signature.args[2]
        x = _row(context, builder, matrix, args[0], args[1])
        y = _row(context, builder, other, args[2], args[3])
        number = context.get_value_type(matrix.dtype)
        totals = {
            width: cgutils.alloca_once(builder, ir.VectorType(number, width) if width > 1 else number)
            for width in (1, WIDTH)
        }
        for total in totals.values():
            builder.store(ir.Constant(total.type.pointee, None), total)

        def step(position, width):
            pair = (_load(builder, row, position, width)[0] for row in (x, y))
            total = builder.load(totals[width])
            product = builder.fmul(*pair, flags=CONTRACT)
            builder.store(builder.fadd(total, product, flags=CONTRACT), totals[width])

        _in_vectors(builder, args[4], args[5], step)
        total, vector = builder.load(totals[1]), builder.load(totals[WIDTH])
        for place in range(WIDTH):
            total = builder.fadd(total, builder.extract_element(vector, ir.IntType(32)(place)))
        return total

    return X.dtype(X, types.intp, T, types.intp, types.intp, types.intp), codegen


@overload(kernels.subtract)
def _subtract_overload(X, r, scale, T, k, first, last):
    return lambda X, r, scale, T, k, first, last: _subtract(X, r, scale, T, k, first, last)


@overload(kernels.subtract_four)
def _subtract_four_overload(X, r, scales, T, k, first, last):
    return lambda X, r, scales, T, k, first, last: _subtract_four(X, r, scales, T, k, first, last)


@overload(kernels.row_dot)
def _row_dot_overload(X, r, T, k, first, last):
    return lambda X, r, T, k, first, last: _row_dot(X, r, T, k, first, last)
