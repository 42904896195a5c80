"""Gram products by syrk: half the operations of a product of matrices. Runs in Python and Numba."""

from autotune.ops import kernels


def gram(X):
    """``X X'`` (n, n), full and exactly symmetric, of X (n, p) in either memory order; n^2 p flops."""
    M, turned = kernels.either_order(X)
    out = kernels.syrk(M, turned)
    kernels.mirror(out, True)
    return out
