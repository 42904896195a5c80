"""Contractions of sums of inverses, products with them and outer products, as gradients make them."""

import pytensor.tensor as pt
from pytensor.tensor import linalg as pl

from fuzz.low_ranks import low_rank


def cotangent(a, terms=None):
    """A sum of terms, wrapped by a scaling, a transpose, a sign."""
    total = None
    for _ in range(terms or a.g.pick({1: 0.4, 2: 0.4, 3: 0.2})):
        name = a.g.choose("cotangent", TERMS, [weight for weight, _ in TERMS.values()])
        term = TERMS[name][1](a)
        total = term if total is None else a.g.pick([total.__add__, total.__sub__])(term)
    wrap = a.g.pick({name: weight for name, (weight, _) in WRAPS.items()})
    a.g.note(wrap)
    return WRAPS[wrap][1](a, total)


def contraction(a):
    """A contraction of such a sum."""
    E = cotangent(a)
    name = a.g.choose("contract", CONTRACTIONS, [weight for weight, _ in CONTRACTIONS.values()])
    made = CONTRACTIONS[name][1](a, E)
    return made if isinstance(made, list) else [made]


def _d(a):
    return a.d(a.g.pick(["positive", "signed", "normal"]))


def _x(a):
    return a.one_of(lambda: a.inv() @ a.y(), lambda: pl.solve(a.K, a.y()), lambda: a.y() @ a.inv())


def _X(a):
    return a.one_of(lambda: a.inv() @ a.u(), lambda: pl.solve(a.K, a.u()))


def _M(a):
    options = {
        a.square: 1.2,
        lambda: a.u() @ a.u().T: 2,
        lambda: pt.diag(a.y()): 1,
        lambda: pt.outer(a.y(), a.y()): 1,
        lambda: pt.eye(a.order) * a.s(): 1,
        lambda: cotangent(a, 1): 1,
        lambda: a.K: 1,
    }
    return a.g.pick(options)()


TERMS = {
    "I": (3, lambda a: a.inv()),
    "sI": (2, lambda a: a.s() * a.inv()),
    "I.T": (1, lambda a: a.inv().T),
    "dI": (1, lambda a: _d(a)[:, None] * a.inv()),
    "Id": (1, lambda a: a.inv() * _d(a)[None, :]),
    "dId": (0.7, lambda a: _d(a)[:, None] * a.inv() * _d(a)),
    "I/s": (0.7, lambda a: a.inv() / a.s()),
    "xx": (2.5, lambda a: pt.outer(_x(a), _x(a))),
    "xy": (1, lambda a: _x(a)[:, None] * a.y()[None, :]),
    "XX": (1.5, lambda a: _X(a) @ _X(a).T),
    "XU": (0.7, lambda a: _X(a) @ a.u().T),
    "D": (1, lambda a: pt.diag(_d(a))),
    "s*eye": (0.7, lambda a: a.s() * pt.eye(a.order)),
    "UU": (1, lambda a: a.u() @ a.u().T),
    "ID": (1, lambda a: a.inv() @ pt.diag(_d(a))),
    "DI": (1, lambda a: pt.diag(_d(a)) @ a.inv()),
    "IL": (1.2, lambda a: a.inv() @ low_rank(a.g, a.dim, "general")),
    "LI": (1.2, lambda a: low_rank(a.g, a.dim, "psd") @ a.inv()),
    "II": (0.7, lambda a: a.inv() @ a.inv()),
    "IT": (0.3, lambda a: a.inv() @ a.inv().T),
    "ILI": (1, lambda a: a.inv() @ (a.u() @ a.u().T) @ a.inv()),
    "IDI": (0.7, lambda a: a.inv() @ pt.diag(_d(a)) @ a.inv()),
    "I*D": (0.7, lambda a: a.inv() * pt.diag(_d(a))),
    "I*eye": (0.5, lambda a: a.inv() * pt.eye(a.order)),
    "KI": (0.4, lambda a: a.K @ a.inv()),
    "IKI": (0.3, lambda a: a.inv() @ (a.K @ a.inv())),
    "I(D+L)": (0.8, lambda a: a.inv() @ (pt.diag(_d(a)) + a.u() @ a.u().T)),
    "I/d": (0.4, lambda a: a.inv() / _d(a)[:, None]),
    "(I-xx)D": (0.5, lambda a: (a.inv() - pt.outer(_x(a), _x(a))) @ pt.diag(_d(a))),
}
WRAPS = {
    "": (6, lambda a, E: E),
    "s*": (1, lambda a, E: a.s() * E),
    "T": (1, lambda a, E: E.T),
    "-": (0.7, lambda a, E: -E),
    "/s": (0.5, lambda a, E: E / a.s()),
    "d*": (0.7, lambda a, E: a.d()[:, None] * E),
    "dd*": (0.5, lambda a, E: pt.outer(_d(a), _d(a)) * E),
}
CONTRACTIONS = {
    "E@U": (1.5, lambda a, E: E @ a.u()),
    "U.T@E": (1, lambda a, E: a.u().T @ E),
    "E@y": (1, lambda a, E: E @ a.y()),
    "y@E": (0.7, lambda a, E: a.y() @ E),
    "y@E@z": (1, lambda a, E: a.y() @ E @ a.y()),
    "diag(E)": (2, lambda a, E: pt.diagonal(E)),
    "sum(E)": (1.5, lambda a, E: E.sum()),
    "sum(E, 0)": (1, lambda a, E: E.sum(axis=0)),
    "sum(E, 1)": (1, lambda a, E: E.sum(axis=1)),
    "mean(E)": (0.4, lambda a, E: E.mean()),
    "sum(E*M)": (3, lambda a, E: (E * _M(a)).sum()),
    "sum(E*M, 0)": (1, lambda a, E: (E * _M(a)).sum(axis=0)),
    "sum(M*E, 1)": (1, lambda a, E: (_M(a) * E).sum(axis=1)),
    "trace(E@M)": (1, lambda a, E: pt.trace(E @ _M(a))),
    "trace(M@E)": (0.7, lambda a, E: pt.trace(_M(a) @ E)),
    "sum(E*E)": (0.6, lambda a, E: (E * E).sum()),
    "E@E@y": (0.5, lambda a, E: E @ (E @ a.y())),
    "U.T@E@U": (1, lambda a, E: a.u().T @ E @ a.u()),
    "diag(E@E)": (0.4, lambda a, E: pt.diagonal(E @ E)),
    "E": (0.3, lambda a, E: E),
    "diag(E*M)": (0.5, lambda a, E: pt.diagonal(E * _M(a))),
    "sum(sqr(E), 1)": (0.4, lambda a, E: pt.sqr(E).sum(axis=1)),
    "trace(E)": (1, lambda a, E: pt.trace(E)),
    "E@M": (0.4, lambda a, E: E @ _M(a)),
    "diag(E@M)": (0.6, lambda a, E: pt.diagonal(E @ _M(a))),
    "several": (0.6, lambda a, E: [E @ a.u(), pt.diagonal(E), E.sum()]),
}
