"""Spellings of a matrix of low rank: functions of `Parts`, that return None where sizes forbid them."""

import numpy as np
import pytensor.tensor as pt
from pytensor.assumptions import assume


def low_rank(g, dim, kind):
    """``kind``: "psd" (a Gram product), "sym" (of unknown sign) or "general"."""
    k = g.pick({"k": 0.75, "q": 0.15, 1: 0.1})
    p = g.at(dim, k)
    p.sign = "positive" if kind == "psd" else g.pick(["positive", "signed"])
    table = {"psd": GRAM, "sym": SYMMETRIC, "general": {**GENERAL, **GRAM}}[kind]
    made = table[g.choose("low rank", table)](p)
    if made is None:
        u = p.u()
        made = u @ u.T
    return made


def _of_u(f):
    """An entry that is a function of one tall matrix ``u``."""
    return lambda p: f(p, p.u())


def _of_column(f):
    """An entry that is a function of one vector."""
    return lambda p: f(p, p.y())


def _gram(x):
    return x @ x.T


def _scaled(p, u):
    return p.g.one_of(lambda: p.s() * u @ u.T, lambda: p.s() * (u @ u.T), lambda: u @ u.T * p.s() ** 2)


def _diagonal_core(p, u):
    return p.g.one_of(
        lambda: u @ pt.diag(p.w()) @ u.T,
        lambda: u @ (pt.diag(p.w()) @ u.T),
        lambda: u @ (pt.eye(p.rank) * p.w()) @ u.T,
    )


def _constant(p):
    if not p.known:
        return None
    x = p.constant((p.dim, p.k))
    return p.g.one_of(lambda: x @ x.T, lambda: p.s() * x @ x.T, lambda: (x * p.w()) @ x.T)


def _columns(p):
    """Some of the columns of a constant."""
    if not p.known:
        return None
    x = p.constant((p.dim, p.k))
    c = p.g.one_of(lambda: x[:, :1], lambda: x[:, [0, 0]], lambda: x - x.mean(axis=0), lambda: 2 * x)
    return p.g.one_of(lambda: c @ c.T, lambda: p.s() * (c @ c.T), lambda: (2 * x) @ x.T)


def _groups(p):
    """A one-hot design, the comparison of its groups, and an index by them."""
    if not p.known:
        return None
    n, k = p.g.length(p.dim), p.g.length(p.k)
    if not k:
        return None
    member = p.g.numbers().randint(0, k, size=n)
    dtype = p.g.pick(["float64", "float32", "int8", "bool"])
    z = pt.constant(np.eye(k, dtype=dtype)[member])
    return p.g.one_of(
        lambda: p.s() * (z @ z.T),
        lambda: (z * p.w("positive")) @ z.T,
        lambda: z @ (p.s() * pt.eye(k)) @ z.T,
        lambda: z @ (p.w("positive")[:, None] * z.T),
        lambda: p.s() * pt.eq(member[:, None], member[None, :]),
        lambda: p.w("positive")[member][:, None] * pt.eq(member[:, None], member[None, :]),
        lambda: _gram(p.core())[member][:, member],
        lambda: (_gram(p.core()) + pt.diag(p.w("positive")))[member[:, None], member[None, :]],
        lambda: z @ _gram(p.core()) @ z.T,
        lambda: pt.eye(k)[member] @ pt.eye(k)[member].T,
    )


def _folded(p):
    """The product itself a constant."""
    if not p.known:
        return None
    x = p.constant((p.dim, p.k)).data
    return p.g.one_of(lambda: pt.constant(x @ x.T), lambda: p.s() * pt.constant(x @ x.T))


def _sum_of_outers(p):
    a, b = p.y(), p.y(reuse=0)
    return pt.outer(a, a) + b[:, None] * b[None, :]


def _inner_gram(p, u):
    C = p.core()
    return u @ (C @ C.T) @ u.T


def _ones(p):
    o = pt.ones((p.order, 1))
    return p.s() * o @ o.T


def _row_scaled(p, u):
    d = p.d("positive")
    return p.g.one_of(
        lambda: _gram(d[:, None] * u),
        lambda: d[:, None] * (u @ u.T) * d[None, :],
        lambda: d[:, None] * (u @ u.T) * d,
    )


def _integer(p):
    i = p.g.input((p.dim, p.k), "int", dtype=p.g.pick(["int64", "int8", "int32"]))
    x = i.astype("float32") if i.dtype == "int8" and p.g.chance(0.3) else i
    return p.g.one_of(
        lambda: x @ x.T,
        lambda: p.s() * (x @ x.T),
        lambda: (x * p.w("positive")) @ x.T,
        lambda: x @ x.T / p.s(),
    )


def _boolean(p):
    b = p.g.input((p.dim, p.k), "bool")
    return p.g.one_of(
        lambda: _gram(b.astype("float64")),
        lambda: _gram(b * p.w("positive")),
        lambda: p.s() * _gram(b.astype("int64")),
        lambda: _gram(pt.switch(b, p.s(), 0.0)),
    )


def _single_precision(p):
    x = p.g.input((p.dim, p.k), dtype="float32")
    return p.g.one_of(lambda: x @ x.T, lambda: p.s() * (x @ x.T), lambda: (x * p.w("positive")) @ x.T)


def _negative(p, u):
    return p.g.one_of(lambda: -(u @ u.T) * 0.1, lambda: (-0.1 * u) @ u.T, lambda: u @ (-0.1 * u).T)


def _symmetric_sum(p, u):
    v = p.u(reuse=0)
    return 0.2 * (u @ v.T + v @ u.T)


def _symmetric_core(p, u):
    C = p.core()
    return p.g.one_of(lambda: u @ (C + C.T) @ u.T, lambda: u @ assume(C + C.T, symmetric=True) @ u.T)


def _rectangular_fill(p, u):
    z = pt.zeros((p.rank, p.g.size("m")), dtype=p.g.float_dtype())
    return u @ pt.fill_diagonal(z, p.s().astype(z.dtype)) @ p.g.input(("m", p.dim))


GRAM = {
    "UU": _of_u(lambda p, u: u @ u.T),
    "s*UU": _of_u(_scaled),
    "Uw U": _of_u(lambda p, u: p.g.one_of(lambda: (u * p.w()) @ u.T, lambda: (p.w()[None, :] * u) @ u.T)),
    "U diag(w) U": _of_u(_diagonal_core),
    "UU/s": _of_u(lambda p, u: u @ u.T / p.s()),
    "W.TW": lambda p: _gram(p.v().T),
    "U(wU)": _of_u(lambda p, u: u @ (p.w()[:, None] * u.T)),
    "constant": _constant,
    "columns of a constant": _columns,
    "groups": _groups,
    "folded": _folded,
    "a scalar": lambda p: pt.alloc(p.s(), p.order, p.order),
    "outer": _of_column(lambda p, v: p.g.one_of(lambda: pt.outer(v, v), lambda: p.s() * pt.outer(v, v))),
    "col*row": _of_column(lambda p, v: v[:, None] * v[None, :]),
    "sum of outers": _sum_of_outers,
    "2U 0.7U": _of_u(lambda p, u: (2 * u) @ (0.7 * u.T)),
    "concatenate": _of_u(lambda p, u: _gram(pt.concatenate([u, p.u(reuse=0)], axis=1))),
    "UCCU": _of_u(_inner_gram),
    "ones": lambda p: pt.ones((p.order, p.order)) * p.s(),
    "dot": _of_u(lambda p, u: pt.dot(u, u.T)),
    "einsum": lambda p: pt.einsum("ik,jk->ij", *[p.u()] * 2) if p.known else None,
    "col@row": _of_column(lambda p, v: v[:, None] @ v[None, :]),
    "exp(U)": _of_u(lambda p, u: _gram(pt.exp(0.3 * u))),
    "(U/s)(U/s)": _of_u(lambda p, u: _gram(u / p.s())),
    "U*sqrt(w)": _of_u(lambda p, u: _gram(u * pt.sqrt(p.w("positive")))),
    "slice": _of_u(lambda p, u: u[:, :1] @ u[:, :1].T),
    "reversed": _of_u(lambda p, u: _gram(u[::-1])),
    "rows scaled": _of_u(_row_scaled),
    "tensordot": _of_u(lambda p, u: pt.tensordot(u, u, axes=[[1], [1]])),
    "two weights": _of_u(lambda p, u: (u * p.w("positive")) @ (u * p.w("positive")).T),
    "UU/s/t": _of_u(lambda p, u: (u / p.s()) @ u.T / p.s()),
    "assumed": _of_u(lambda p, u: assume(u @ u.T, symmetric=True)),
    "column of ones": _ones,
    "s**2*col*row": _of_column(lambda p, v: p.s() ** 2 * v[:, None] * v[None, :] / p.s()),
    "UU+outer": _of_u(lambda p, u: u @ u.T + (lambda v: pt.outer(v, v) * p.s())(p.y())),
    "integer U": _integer,
    "boolean U": _boolean,
    "float32 U": _single_precision,
}
SYMMETRIC = {
    "-UU": _of_u(_negative),
    "Uw U": GRAM["Uw U"],
    "U diag(w) U": GRAM["U diag(w) U"],
    "UU": GRAM["UU"],
    "UCsymU": _of_u(_symmetric_core),
    "UV+VU": _of_u(_symmetric_sum),
}
GENERAL = {
    "UV": _of_u(lambda p, u: u @ p.u(reuse=0).T),
    "U diag(w) V": _of_u(lambda p, u: u @ pt.diag(p.w()) @ p.u(reuse=0.2).T),
    "outer xy": _of_column(lambda p, x: pt.outer(x, p.y(reuse=0))),
    "UwV": _of_u(lambda p, u: (u * p.w()) @ p.v()),
    "-UU": SYMMETRIC["-UU"],
    "UV+VU": SYMMETRIC["UV+VU"],
    "s*UV": _of_u(lambda p, u: p.s() * u @ p.v()),
    "UCU": _of_u(lambda p, u: u @ p.core() @ u.T),
    "rows scaled on one side": _of_u(lambda p, u: p.d("signed")[:, None] * (u @ u.T)),
    "constant V": _of_u(lambda p, u: u @ p.constant((p.k, p.dim)) if p.known else None),
    "rank one": _of_column(lambda p, x: x[:, None] * p.y(reuse=0.1)[None, :] * p.s()),
    "UV.T": _of_u(lambda p, u: (u @ p.u(reuse=0).T).T),
    "dU V": _of_u(lambda p, u: pt.diag(p.d("signed")) @ u @ p.v()),
    "rectangular fill_diagonal": _of_u(_rectangular_fill),
    "rectangular eye": _of_u(
        lambda p, u: u @ (pt.eye(p.rank, p.g.size("m")) * p.s()) @ p.g.input(("m", p.dim))
    ),
}
