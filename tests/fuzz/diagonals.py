"""Spellings of a diagonal matrix: functions of `Parts`, that return None where sizes forbid them."""

import pytensor.tensor as pt

INTEGERS = ["int64", "int8", "int32"]


def diagonal(g, dim, positive=True):
    """``diag(d)`` in some spelling; ``positive``: no entry is negative."""
    sign = "positive" if positive else g.pick({"positive": 0.3, "signed": 0.4, "some_zero": 0.3})
    if positive and g.chance(0.12):
        sign = g.pick({"some_zero": 0.4, "wide": 0.6})
    p = g.at(dim)
    p.sign = sign
    name = g.choose("diag" if positive else "diag~", DIAGONALS)
    made = DIAGONALS[name](p)
    return pt.diag(p.d()) if made is None else made


def _filled(p):
    z = p.zeros()
    return pt.fill_diagonal(z, p.s().astype(z.dtype))


def _set(p):
    i, z = pt.arange(p.order), p.zeros()
    v = p.g.one_of(p.d, p.d, p.s)
    return z[i, i].set(v.astype("float32") if z.dtype == "float32" else v)


def _incremented(p):
    i, z = pt.arange(p.order), p.zeros()
    return z[i, i].inc(p.d().astype(z.dtype))


def _integer_eye(p):
    e = pt.eye(p.order, dtype=p.g.pick(["int64", "int8", "bool"]))
    return p.g.one_of(
        lambda: e * p.s(),
        lambda: p.s() * e if e.dtype == "bool" else e / p.s(),
        lambda: e * p.d(),
        lambda: e * p.d()[:, None],
        lambda: p.s() * e + 0.5 * e,
    )


def _integer_vector(p):
    i = p.g.input((p.dim,), "int", dtype=p.g.pick(INTEGERS))
    D = pt.diag(pt.abs(i) + 1)
    return p.g.one_of(
        lambda: D.astype("float64"),
        lambda: D / p.s(),
        lambda: p.s() * D,
        lambda: D * p.s(),
        lambda: D + 0.5 * D,
    )


def _integer_scalar(p):
    i = pt.abs(p.g.input((), "int", dtype=p.g.pick(INTEGERS))) + 1
    e = p.eye()
    return p.g.one_of(lambda: i * e, lambda: e / i, lambda: e * p.s() / i, lambda: i**2 * p.s() * e)


def _bool_vector(p):
    mask = p.g.input((p.dim,), "bool")
    return p.g.one_of(
        lambda: pt.diag(mask) * p.s() + p.eye(),
        lambda: pt.diag(pt.switch(mask, p.s(), 1.0)),
        lambda: p.eye() * (mask + 0.5),
        lambda: pt.diag(mask.astype("float32")) + p.eye(),
    )


def _divided_eye(p):
    d = p.d("positive")
    return p.eye() / p.g.one_of(lambda: d, lambda: d[:, None])


def _concatenated(p):
    x = p.d()
    return pt.diag(pt.concatenate([x[:1], x[1:]]))


def _switched(p):
    i = pt.arange(p.order)
    return pt.switch(pt.eq(i[:, None], i[None, :]), p.d(), 0.0)


DIAGONALS = {
    "diag": lambda p: pt.diag(p.d()),
    "eye*s": lambda p: p.eye() * p.s(),
    "s**2*eye": lambda p: p.s() ** 2 * p.eye(),
    "eye*d": lambda p: p.eye() * p.d(),
    "eye*dcol": lambda p: p.eye() * p.d()[:, None],
    "eye*drow": lambda p: p.d()[None, :] * p.eye(),
    "dcol*eye*s": lambda p: p.d()[:, None] * p.eye() * p.s(),
    "exp": lambda p: pt.diag(pt.exp(p.y())),
    "softplus": lambda p: pt.diag(pt.softplus(p.y()) + 0.01),
    "fill_diagonal": _filled,
    "set": _set,
    "inc": _incremented,
    "constant": lambda p: (
        pt.diag(p.constant((p.dim,), p.sign)).eval() if p.g.known(p.dim) and p.g.chance(0.5) else None
    ),
    "c*eye": lambda p: p.g.pick([0.1, 1.0, 2.5, 1e-3]) * p.eye(),
    "eye/s": lambda p: p.eye() / p.s(),
    "diag/s": lambda p: pt.diag(p.d()) / p.s(),
    "eye/d": _divided_eye,
    "1/d": lambda p: pt.diag(1 / p.d("positive")),
    "identity_like": lambda p: pt.identity_like(p.square()) * p.s(),
    "full": lambda p: pt.diag(pt.full((p.order,), p.s())),
    "diag@diag": lambda p: pt.diag(p.d()) @ pt.diag(p.d("positive")),
    "diag*M": lambda p: pt.diag(p.d()) * p.square("spd"),
    "eye*M": lambda p: p.eye() * p.square("spd"),
    "diag(diagonal)": lambda p: pt.diag(pt.diagonal(p.square("spd"))),
    "integer eye": _integer_eye,
    "integer vector": _integer_vector,
    "integer scalar": _integer_scalar,
    "bool vector": _bool_vector,
    "switch": _switched,
    "where": lambda p: pt.where(pt.eye(p.order, dtype="bool"), p.s(), 0.0),
    "-(-D)": lambda p: -pt.diag(-p.d()),
    "sum": lambda p: pt.diag(p.d()) + pt.diag(p.d("positive")) + p.s() * p.eye(),
    "D.T": lambda p: pt.diag(p.d()).T,
    "(drow*eye).T": lambda p: (p.d()[None, :] * p.eye()).T,
    "concatenate": _concatenated,
    "eye@eye": lambda p: p.eye() @ (p.eye() * p.s()),
    "eye32": lambda p: pt.eye(p.order, dtype="float32").astype("float64") * p.s(),
    "eye32*s64": lambda p: pt.eye(p.order, dtype="float32") * p.s(),
    "s*t*eye": lambda p: pt.mul(p.eye(), p.s(), p.s(reuse=0)),
    "sqrt(s)*eye": lambda p: pt.sqrt(p.s()) * p.eye(),
    "mask*d": lambda p: pt.eq(pt.arange(p.order)[:, None], pt.arange(p.order)[None, :]) * p.d(),
    "diag*row": lambda p: pt.diag(p.d()) * p.d("positive")[None, :],
    "ones*s": lambda p: pt.diag(pt.ones((p.order,)) * p.s()),
    "eye**2": lambda p: p.eye() ** 2 * p.s(),
}
