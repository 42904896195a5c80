"""Operations on vectors under Numba, behind the names of `kernels`: loops that the compiler vectorises."""

import numpy as np
from numba.core.extending import overload

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
