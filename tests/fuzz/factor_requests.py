"""Requests by Cholesky factors: of definite, indefinite, singular and half-given matrices."""

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor import linalg as pl

from fuzz.scalar_requests import log_density_of_pymc


def log_diagonal(L):
    return pt.log(pt.diagonal(L, axis1=-2, axis2=-1)).sum(axis=-1)


def _two_triangular(a):
    b, b_ndim = a.rhs()
    L = pl.cholesky(a.K)
    z = pl.solve_triangular(L, b, lower=True, b_ndim=b_ndim)
    if a.g.chance(0.5):
        return [pl.solve_triangular(L.mT, z, lower=False, b_ndim=b_ndim)]
    return [pl.solve_triangular(L, z, lower=True, trans=1, b_ndim=b_ndim)]


def _log_diagonals(a):
    L = pl.cholesky(a.K)
    return [
        a.one_of(
            lambda: 2 * pt.log(pt.diagonal(L)).sum(),
            lambda: pt.log(pt.diag(L)).sum(),
            lambda: pt.log(pt.prod(pt.diag(L))),
            lambda: pt.log(pl.det(L)),
            lambda: pt.log(pt.diagonal(L)),
            lambda: pt.sum(pt.log(pt.diagonal(L) ** 2)),
            lambda: pl.slogdet(L)[1],
        )
    ]


def _log_density(a):
    b, b_ndim = a.rhs()
    L = pl.cholesky(a.K)
    z = pl.solve_triangular(L, b, lower=True, b_ndim=b_ndim)
    q = a.one_of(lambda: pt.sqr(z), lambda: z**2, lambda: z * z)
    axes = [-1, -1, None] if b_ndim == 1 else [0, None, -2, (0, 1)]
    lp = -0.5 * q.sum(axis=a.g.pick(axes)) - log_diagonal(L)
    if a.g.chance(0.3):
        lp = pt.switch(pt.all(pt.diagonal(L) > 0), lp, -np.inf)
    return [lp]


def _cho_solve(a):
    b, b_ndim = a.rhs()
    return [pl.cho_solve((pl.cholesky(a.K), True), b, b_ndim=b_ndim)]


def _upper(a):
    b, b_ndim = a.rhs()
    U = pl.cholesky(a.K, lower=False)
    return [
        a.one_of(
            lambda: pl.cho_solve((U, False), b, b_ndim=b_ndim),
            lambda: pl.cho_solve((pl.cholesky(a.K).mT, False), b, b_ndim=b_ndim),
            lambda: pl.solve_triangular(U, b, lower=False, b_ndim=b_ndim),
        )
    ]


def _whitened(a):
    b, b_ndim = a.rhs()
    return [pl.solve_triangular(pl.cholesky(a.K), b, lower=True, b_ndim=b_ndim)]


def _is_definite(a):
    L = pl.cholesky(a.K)
    return [pt.all(pt.diagonal(L) > 0), pt.log(pt.diagonal(L)).sum()]


def _maybe_definite(a):
    L, x = pl.cholesky(a.m.var), a.y()
    z = pl.solve_triangular(L, x, lower=True)
    lp = -0.5 * pt.sqr(z).sum() - pt.log(pt.diagonal(L)).sum()
    definite = pt.all(pt.diagonal(L) > 0)
    return [
        a.one_of(
            lambda: pt.switch(definite, lp, -np.inf),
            lambda: lp,
            lambda: definite,
            lambda: pl.cho_solve((L, True), x),
            lambda: pt.log(pt.diagonal(L)).sum(),
        )
    ]


def _fallback(a):
    """By the Cholesky factor, and where that fails (NaN) otherwise."""
    L, x = pl.cholesky(a.K, on_error="nan"), a.y()
    z = pl.cho_solve((L, True), x)
    half = pt.log(pt.diagonal(L)).sum()
    return [
        a.one_of(
            lambda: pt.switch(pt.isnan(z), pl.solve(a.K, x), z),
            lambda: pt.switch(pt.isnan(L[0, 0]), pl.solve(a.K, x), z),
            lambda: pt.switch(pt.any(pt.isnan(L)), pl.slogdet(a.K)[1], 2 * half),
            lambda: pt.switch(pt.isnan(half), -np.inf, half),
            lambda: pt.where(pt.isnan(z).any(), pl.inv(a.K) @ x, z),
        )
    ]


def _beside(a):
    """A general request beside a factor that may not exist."""
    L, x = pl.cholesky(a.K, on_error="nan"), a.y()
    general = a.one_of(
        lambda: pl.solve(a.K, x),
        lambda: pt.diagonal(pl.inv(a.K)),
        lambda: pl.slogdet(a.K)[0],
        lambda: pl.det(a.K),
    )
    definite = a.one_of(
        lambda: L[0, 0], lambda: pt.log(pt.diagonal(L)).sum(), lambda: pl.solve(a.K, x, assume_a="pos")
    )
    return [definite, general]


def _positive_solve(a):
    b, b_ndim = a.rhs()
    return [pl.solve(a.K, b, assume_a="pos", b_ndim=b_ndim)]


FACTOR = {
    "cholesky solve": (1.5, _two_triangular),
    "log diagonal of the factor": (1.2, _log_diagonals),
    "cholesky log-density": (2.5, _log_density),
    "cho_solve": (1.2, _cho_solve),
    "upper factor": (0.4, _upper),
    "factor": (0.5, lambda a: [pl.cholesky(a.K)]),
    "whitened": (0.7, _whitened),
    "is definite": (0.5, _is_definite),
    "fallback": (0.5, _fallback),
    "beside a factor": (0.5, _beside),
    "pymc": (0.8, log_density_of_pymc),
}
INDEFINITE = {
    "maybe definite": (1.2, _maybe_definite),
    "fallback": (1, _fallback),
    "beside a factor": (1, _beside),
    "solve as definite": (0.5, _positive_solve),
    "log diagonal of the factor": (0.4, _log_diagonals),
}


# -- one triangle --------------------------------------------------------------------------------------


def _triangle_solve(a):
    b, b_ndim = a.rhs()
    how = a.g.pick(["sym", "her", "pos", "symmetric", "positive definite"])
    a.g.note(how)
    return [pl.solve(a.K, b, assume_a=how, lower=a.m.triangle == "lower", b_ndim=b_ndim)]


def _triangle_factor(a):
    lower = a.m.triangle == "lower"
    L = pl.cholesky(a.K, lower=lower)
    b = a.y()
    return [
        a.one_of(
            lambda: pl.cho_solve((L, lower), b),
            lambda: pt.log(pt.diagonal(L)).sum(),
            lambda: L,
            lambda: pl.solve_triangular(L, b, lower=lower),
        )
    ]


TRIANGLE = {
    "solve of one triangle": (3, _triangle_solve),
    "two solves of one triangle": (2, lambda a: _triangle_solve(a) + _triangle_solve(a)),
    "factor of one triangle": (2, _triangle_factor),
}


# -- singular ------------------------------------------------------------------------------------------

SINGULAR = {
    "det of singular": (2, lambda a: [pl.det(a.K)]),
    "exp(logdet) of singular": (1, lambda a: [pt.exp(pl.slogdet(a.K)[1])]),
    "det of singular + I": (1.5, lambda a: [pl.det(a.K + a.one_of(a.s, lambda: 1.0) * a.eye())]),
    "pinv of singular + I": (0.3, lambda a: [pl.pinv(a.K + a.eye()) @ a.y()]),
    "solve of singular + I": (1.5, lambda a: [pl.solve(a.K + a.s() * a.eye(), a.y())]),
    "det of scaled singular": (1, lambda a: [pl.det(a.s() * a.K), pl.det(-a.K)]),
}
