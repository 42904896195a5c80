"""Requests of determinants and quadratic forms and of functions of them, and PyMC's log-densities."""

import pytensor.tensor as pt
from pytensor.tensor import linalg as pl


def _logdet(a):
    return a.one_of(lambda: pl.slogdet(a.K)[1], lambda: pt.log(pt.abs(pl.det(a.K))))


def _form(a):
    x = a.y()
    return a.one_of(
        lambda: x @ a.inv() @ x,
        lambda: x @ pl.solve(a.K, x, assume_a=a.assumption()),
        lambda: (x * pl.solve(a.K, x)).sum(),
    )


def _log_density(a):
    x = a.y()
    form = a.one_of(
        lambda: x @ a.inv() @ x, lambda: x @ pl.solve(a.K, x, assume_a="pos" if a.m.spd else "gen")
    )
    return [-0.5 * (form + pl.slogdet(a.K)[1])]


def _nonlinear(a):
    """exp, squares and products of quadratic forms and log-determinants."""
    name = a.g.pick(list(NONLINEAR))
    a.g.note(name)
    a.g.tag(f"nonlinear:{name}")
    return [NONLINEAR[name](_form(a), _logdet(a))]


NONLINEAR = {
    "exp": lambda q, ld: pt.exp(-0.1 * pt.abs(q) - 0.01 * ld),
    "square": lambda q, ld: pt.sqr(q) + ld**2,
    "product": lambda q, ld: q * ld,
    "tanh": lambda q, ld: pt.tanh(q) * pt.tanh(ld),
    "quotient": lambda q, ld: q / (1 + ld**2),
    "log1p": lambda q, ld: pt.log1p(q**2) + pt.sin(ld),
    "chain": lambda q, ld: pt.sqrt(1 + pt.sqr(q * ld + ld)),
    "softplus": lambda q, ld: pt.softplus(q - ld),
    "power": lambda q, ld: pt.abs(q) ** 1.5 * pt.exp(0.1 * pt.tanh(ld)),
    "switch": lambda q, ld: pt.switch(q > 0, q * ld, ld),
}


def log_density_of_pymc(a):
    import pymc as pm

    y, mu = a.y(), a.y()
    how = a.g.pick(["cov", "chol", "tau", "rows", "t"])
    a.g.note(how)
    if how == "t":
        return [pm.logp(pm.MvStudentT.dist(nu=5, mu=mu, scale=a.K), y)]
    given = {"chol": lambda: {"chol": pl.cholesky(a.K)}, "tau": lambda: {"tau": a.K}}
    dist = pm.MvNormal.dist(mu=mu, **given.get(how, lambda: {"cov": a.K})())
    return [pm.logp(dist, a.g.input(("b", a.dim)) if how == "rows" else y)]


SCALAR = {
    "det": (0.8, lambda a: [pl.det(a.K)]),
    "logdet": (3, lambda a: [pl.slogdet(a.K)[1]]),
    "slogdet": (0.6, lambda a: [*pl.slogdet(a.K)]),
    "log|det|": (1, lambda a: [pt.log(pt.abs(pl.det(a.K)))]),
    "log(det)": (0.7, lambda a: [pt.log(pl.det(a.K))]),
    "det, log|det|": (0.7, lambda a: [pl.det(a.K), pt.log(pt.abs(pl.det(a.K)))]),
    "quadratic form": (1.5, lambda a: [_form(a)]),
    "log-density": (2, _log_density),
    "nonlinear": (2, _nonlinear),
    "sign times form": (0.4, lambda a: [pl.slogdet(a.K)[0] * _form(a)]),
}
