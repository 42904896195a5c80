"""What is asked of a matrix. An entry of a table takes an `Ask` and returns a list of outputs."""

import pytensor.tensor as pt
from pytensor.assumptions import assume
from pytensor.tensor import linalg as pl

from fuzz.asking import Ask
from fuzz.contractions import contraction
from fuzz.diagonals import diagonal
from fuzz.factor_requests import FACTOR, INDEFINITE, SINGULAR, TRIANGLE
from fuzz.low_ranks import low_rank
from fuzz.scalar_requests import SCALAR


def request(g, m):
    """A list of outputs asked of the matrix ``m``."""
    K = m.var
    if g.assume_tags and not m.triangle and not m.singular and g.chance(0.6):
        if m.spd:
            K = assume(K, positive_definite=True)
        elif m.sym:
            K = assume(K, symmetric=True)
        g.tag("assumed")
    if m.triangle:
        table = TRIANGLE
    elif m.singular:
        table = SINGULAR
    else:
        table = {**GENERAL, **SCALAR, **(FACTOR if m.spd else INDEFINITE if m.sym else {})}
    name = g.choose("ask", table, [weight for weight, _ in table.values()])
    g.requests.append(name)
    # NumPy computes determinants in float64 also of float32: plain's noise does not say what float32 leaves
    if not m.singular or (K.dtype == "float32" and "+ I" not in name):
        g.solved.append(_whole(m, K))
    return table[name][1](Ask(g, m, K))


def _whole(m, K):
    """The symmetric matrix of which ``K`` holds one triangle."""
    if not m.triangle:
        return K
    half = pt.tril(K) if m.triangle == "lower" else pt.triu(K)
    return half + half.T - pt.diag(pt.diagonal(K))


def _solve(a, transposed=False):
    b, b_ndim = a.rhs()
    options = ["gen"]
    if a.m.spd:
        options += ["pos", "pos", "sym", "her", "positive definite"]
    elif a.m.sym:
        options += ["sym", "her", "symmetric"]
    how = {"assume_a": a.g.pick(options)}
    if a.g.chance(0.3):
        how["lower"] = True
    if transposed or a.g.chance(0.15):
        how["transposed"] = True
    if b_ndim != min(b.ndim, 2) or a.g.chance(0.3):
        how["b_ndim"] = b_ndim
    a.g.note(str(how))
    return [pl.solve(a.K, b, **how)]


def _product(a, left):
    b, _ = a.rhs(a.g.pick(["vector", "matrix"]))
    if left:
        return [(b if b.ndim == 1 else b.T) @ a.inv()]
    return [a.inv() @ b]


def _quadratic(a):
    x, K1 = a.y(), a.inv
    return [
        a.one_of(
            lambda: x @ K1() @ x,
            lambda: pt.dot(x, pt.dot(K1(), x)),
            lambda: (x * (K1() @ x)).sum(),
            lambda: x.dot(K1()).dot(a.y()),
            lambda: x[None, :] @ K1() @ x[:, None],
        )
    ]


def _trace_of_inverse(a):
    return [
        a.one_of(
            lambda: pt.trace(a.inv()),
            lambda: pt.diagonal(a.inv()).sum(),
            lambda: (a.inv() * pt.eye(a.order)).sum(),
            lambda: pt.trace(pl.solve(a.K, pt.eye(a.order))),
        )
    ]


def _diagonal_of_inverse(a):
    return [
        a.one_of(
            lambda: pt.diagonal(a.inv()),
            lambda: pt.diag(a.inv()),
            lambda: 1 / pt.diagonal(a.inv()),
            lambda: pt.diagonal(a.inv()) * a.y(),
        )
    ]


def _sum_of_product(a):
    M = a.square()
    return [
        a.one_of(
            lambda: (a.inv() * M).sum(),
            lambda: (a.inv().T * M).sum(axis=0),
            lambda: (M * a.inv()).sum(axis=1),
        )
    ]


def _trace_of_product(a):
    M = a.one_of(a.square, lambda: low_rank(a.g, a.dim, "psd"), lambda: diagonal(a.g, a.dim))
    return [
        a.one_of(
            lambda: pt.trace(a.inv() @ M), lambda: pt.trace(M @ a.inv()), lambda: pt.trace(pl.solve(a.K, M))
        )
    ]


def _diagonal_of_product(a):
    M = a.one_of(a.square, lambda: low_rank(a.g, a.dim, "psd"))
    return [pt.diagonal(a.inv() @ M)]


def _twice(a):
    M = a.one_of(lambda: a.square("spd"), lambda: low_rank(a.g, a.dim, "psd"), lambda: diagonal(a.g, a.dim))
    P = a.inv() @ M @ a.inv()
    return [a.one_of(lambda: P, lambda: pt.trace(P), lambda: pt.diagonal(P), lambda: P.sum())]


def _sums(a):
    K1 = a.inv
    return [
        a.one_of(
            lambda: K1().sum(),
            lambda: K1().mean(),
            lambda: (K1() ** 2).sum(),
            lambda: pt.sqr(K1()).sum(axis=1),
        )
    ]


def _several_forms(a):
    x = a.g.input((a.dim, "m"))
    return [
        a.one_of(
            lambda: (x * pl.solve(a.K, x)).sum(axis=0),
            lambda: pt.diagonal(x.T @ pl.solve(a.K, x)),
            lambda: x.T @ a.inv() @ x,
        )
    ]


def _power(a):
    return [pl.matrix_power(a.K, -1) @ a.y() if a.g.chance(0.6) else pl.matrix_power(a.K, -2)]


def _lu_solve(a):
    b, b_ndim = a.rhs()
    return [pl.lu_solve(pl.lu_factor(a.K), b, trans=a.g.chance(0.3), b_ndim=b_ndim)]


def _chain(a):
    x = pl.solve(a.K, a.y())
    if a.g.chance(0.5):
        return [pl.solve(a.K, x), x]
    return [pl.solve(a.K.T, x, assume_a="gen"), a.inv() @ x]


def _mean_field(a):
    x = a.y()
    z = pl.solve(a.K, x)
    return [x - pt.diagonal(a.K) * z, z / pt.diagonal(a.inv())]


def _normalised(a):
    x = pl.solve(a.K, a.y())
    return [x / pt.sqrt((x**2).sum())]


GENERAL = {
    "solve": (4, _solve),
    "solve transposed": (0.7, lambda a: _solve(a, transposed=True)),
    "inv@y": (1.5, lambda a: _product(a, left=False)),
    "y@inv": (1, lambda a: _product(a, left=True)),
    "y@inv@y": (2, _quadratic),
    "trace(inv)": (1.5, _trace_of_inverse),
    "diag(inv)": (1.5, _diagonal_of_inverse),
    "sum(inv*M)": (1, _sum_of_product),
    "trace(inv@M)": (1, _trace_of_product),
    "inverse": (0.8, lambda a: [a.inv()]),
    "trace of a solve": (0.6, lambda a: [pt.trace(pl.solve(a.K, low_rank(a.g, a.dim, "psd")))]),
    "pinv": (0.4, lambda a: [pl.pinv(a.K) @ a.y()]),
    "matrix_power": (0.4, _power),
    "lu_solve": (0.7, _lu_solve),
    "inv.T": (0.3, lambda a: [a.inv().T, a.inv().sum(axis=0)]),
    "inv(inv)": (0.3, lambda a: [pl.inv(a.inv())]),
    "inv@M@inv": (0.5, _twice),
    "sum(inv)": (0.5, _sums),
    "row of inv": (0.3, lambda a: [a.inv()[0]]),
    "chain of solves": (0.5, _chain),
    "quadratic forms": (0.7, _several_forms),
    "sums of inv": (0.4, lambda a: [a.inv().sum(axis=0), a.inv().sum(axis=1)]),
    "diag(inv@M)": (0.5, _diagonal_of_product),
    "mean field": (0.5, _mean_field),
    "y.T@inv@Z": (0.6, lambda a: [a.g.input((a.dim, "m")).T @ a.inv() @ a.g.input((a.dim, "k"))]),
    "normalised": (0.4, _normalised),
    "entries of inv": (0.3, lambda a: [a.inv()[0, -1], a.inv()[-1, 0]]),
    "contraction": (4, contraction),
}
