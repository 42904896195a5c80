"""Batches of matrices: solves with right-hand sides of their own or shared, determinants, inverses."""

import pytensor.tensor as pt
from pytensor.assumptions import assume
from pytensor.tensor import linalg as pl

from fuzz.factor_requests import log_diagonal
from fuzz.generator import Parts


class Batch(Parts):
    """The pieces of a batched request: ``lead`` are the lengths of the batch, ``K`` the matrices."""

    def __init__(self, g, lead):
        super().__init__(g, "n")
        self.lead, self.K, self.how = lead, None, {}

    def stack(self, *dims, kind="normal"):
        return self.g.input((*self.lead, *dims), kind)

    def ones(self, *dims, kind="normal"):
        """Of length 1 along the batch."""
        return self.g.input((1,) * len(self.lead) + dims, kind)

    def solve(self, b, b_ndim):
        return pl.solve(self.K, b, b_ndim=b_ndim, **self.how)

    def diag_inv(self):
        return pt.diagonal(pl.inv(self.K), axis1=-2, axis2=-1)


def batched_graph(g):
    """One batch of matrices and one to three requests on it."""
    g.tag("batched graph")
    p = Batch(g, g.pick({("b",): 3, (1,): 1.5, ("b", "q"): 1, (1, "b"): 0.7, ("J",): 2}))
    g.all_thin = False
    form = g.choose("batch", MATRICES)
    g.note(str(p.lead))
    p.K = MATRICES[form](p)
    spd = not form.startswith("general")
    if g.assume_tags and spd:
        p.K = assume(p.K, positive_definite=True)
    g.solved.append(p.K)
    table = {**REQUESTS, **(FACTOR if spd else {})}
    outs = []
    for _ in range(g.pick({1: 0.4, 2: 0.4, 3: 0.2})):
        name = g.choose("batched ask", table)
        g.requests.append("batched")
        p.how = {"assume_a": "pos"} if spd and g.chance(0.5) else {}
        if g.chance(0.2):
            p.how["lower"] = True
        outs.append(table[name](p))
    return outs


def _thin(p):
    U = p.stack("n", "k")
    return U @ U.mT + p.g.one_of(
        lambda: p.s() * pt.eye(p.order),
        lambda: pt.eye(p.order) * p.stack("n", kind="positive")[..., None, :],
        lambda: pt.eye(p.order) * p.stack(1, 1, kind="positive"),
    )


def _scaled_single(p):
    U = p.u()
    return (U @ U.T + p.s() * pt.eye(p.order))[(None,) * len(p.lead)] * p.stack(1, 1, kind="positive")


def _gram(p):
    X = p.stack("n", "n")
    return X @ X.mT + p.s() * pt.eye(p.order)


def _rbf(p):
    x = p.stack("n")
    return pt.exp(-0.5 * pt.sqr(x[..., :, None] - x[..., None, :])) + (p.s() + 0.1) * pt.eye(p.order)


MATRICES = {
    "thin": _thin,
    "one thin, scaled": _scaled_single,
    "spd": lambda p: p.stack("n", "n", kind="spd"),
    "gram": _gram,
    "general": lambda p: p.stack("n", "n", kind="general"),
    "general+I": lambda p: 0.3 * p.stack("n", "n", kind="general") + 3.0 * pt.eye(p.order),
    "broadcast": lambda p: p.stack("n", "n", kind="spd") + p.ones("n", "n", kind="spd"),
    "rbf": _rbf,
}


def _quadratic(p):
    x = p.stack("n")
    return (x * p.solve(x, 1)).sum(axis=-1)


def _shared_quadratic(p):
    x = p.y()
    return (x * p.solve(x, 1)).sum(axis=-1)


def _product(p):
    b = p.stack("n", "m")
    return p.g.one_of(lambda: pl.inv(p.K) @ b, lambda: b.mT @ pl.inv(p.K))


def _nonlinear(p):
    """A function of the quadratic forms and log-determinants of the batch."""
    q, ld = _quadratic(p), pl.slogdet(p.K)[1]
    return p.g.one_of(lambda: pt.exp(-0.1 * q**2) * ld, lambda: q * ld, lambda: pt.sqr(q - ld))


def _log_density(p):
    L = pl.cholesky(p.K)
    z = pl.solve_triangular(L, p.g.one_of(lambda: p.stack("n"), p.y), lower=True, b_ndim=1)
    return -0.5 * pt.sqr(z).sum(axis=-1) - log_diagonal(L)


REQUESTS = {
    "solve vectors": lambda p: p.solve(p.stack("n"), 1),
    "solve columns": lambda p: p.solve(p.stack("n", "m"), 2),
    "solve one vector": lambda p: p.solve(p.y(), 1),
    "solve one set of columns": lambda p: p.solve(p.g.input(("n", "m")), 2),
    "solve length 1": lambda p: p.solve(p.ones("n", "m"), 2),
    "logdet": lambda p: pl.slogdet(p.K)[1],
    "det": lambda p: p.g.one_of(lambda: pl.det(p.K), lambda: pt.log(pt.abs(pl.det(p.K)))),
    "sign": lambda p: pl.slogdet(p.K)[0] * pl.slogdet(p.K)[1],
    "inverse": lambda p: pl.inv(p.K),
    "inv@B": _product,
    "diag(inv)": lambda p: p.diag_inv(),
    "trace(inv)": lambda p: p.diag_inv().sum(axis=-1),
    "quadratic": _quadratic,
    "quadratic of one vector": _shared_quadratic,
    "nonlinear": _nonlinear,
}
FACTOR = {
    "factor": lambda p: pl.cholesky(p.K),
    "cho_solve": lambda p: pl.cho_solve((pl.cholesky(p.K), True), p.stack("n"), b_ndim=1),
    "cho_solve one vector": lambda p: pl.cho_solve((pl.cholesky(p.K), True), p.y(), b_ndim=1),
    "log diagonal of the factor": lambda p: log_diagonal(pl.cholesky(p.K)),
    "log-density": _log_density,
}
