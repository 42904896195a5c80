"""Matrices: diagonal plus low rank, dense, banded, of points, of blocks, compound.

`FAMILIES` registers structures.
"""

import pytensor.tensor as pt
from pytensor.tensor import linalg as pl

from fuzz.bands import banded_matrix
from fuzz.dense import dense_matrix, semidefinite
from fuzz.diagonals import diagonal
from fuzz.generator import Matrix
from fuzz.joins import joined_matrix
from fuzz.low_ranks import low_rank
from fuzz.parts import parts_matrix
from fuzz.points import matrix_of_points
from fuzz.spaced import evenly_spaced


def matrix(g, dim="n", depth=0):
    """A random matrix of order ``dim``, at times of another order made from it (block, Kronecker)."""
    weights = {name: weight for name, (weight, _) in FAMILIES.items()}
    name = g.pick(weights)
    if depth > 1 and name == "compound":
        name = "dense"
    made = FAMILIES[name][1](g, dim, depth)
    g.all_thin &= made.thin
    return made


# -- diagonal plus low rank ----------------------------------------------------------------------------


def thin_matrix(g, dim, depth=0):
    """``D + L`` in some arrangement."""
    kind = g.pick({"psd": 0.62, "sym": 0.16, "general": 0.22})
    D = diagonal(g, dim, positive=kind == "psd" or g.chance(0.5))
    L = low_rank(g, dim, kind)
    form = g.choose("thin", THIN, [weight for weight, _ in THIN.values()])
    K = THIN[form][1](g.at(dim), D, L, kind)
    if form == "named" or g.chance(0.3):
        K.name = "K"
    definite = kind == "psd" and form not in ("-(D+L)", "D-L")
    return Matrix(K, dim, spd=definite, sym=kind != "general", thin=True)


def _both_scaled(p, D, L, kind):
    c = p.d()
    return p.g.one_of(
        lambda: c[:, None] * (D + L) * c[None, :],
        lambda: pt.outer(c, c) * (D + L),
        lambda: (D + L) * c[:, None] * c,
    )


def _incremented(base, p, value):
    i = pt.arange(p.order)
    return base[i, i].inc(value.astype(base.dtype))


def _filled(p, D, L, kind):
    base = L if L.dtype.startswith("float") else L.astype("float64")
    return _incremented(base, p, p.s())


def _between_diagonals(p, D, L, kind):
    c = p.d()
    return pt.diag(c) @ (D + L) @ pt.diag(c)


THIN = {
    "D+L": (4, lambda p, D, L, kind: D + L),
    "L+D": (4, lambda p, D, L, kind: L + D),
    "s(D+L)": (1, lambda p, D, L, kind: p.s() * (D + L)),
    "D+L+L": (1.2, lambda p, D, L, kind: D + L + low_rank(p.g, p.dim, kind)),
    "(D+L)/s": (1, lambda p, D, L, kind: (D + L) / p.s()),
    "D+L+D": (1, lambda p, D, L, kind: D + L + diagonal(p.g, p.dim)),
    "scaled on both sides": (1, _both_scaled),
    "-(D+L)": (0.7, lambda p, D, L, kind: -(D + L)),
    "D-L": (0.7, lambda p, D, L, kind: D - 0.05 * L),
    "(D+L).T": (0.6, lambda p, D, L, kind: (D + L).T),
    "D+L*t": (0.6, lambda p, D, L, kind: D + L * p.s()),
    "inc": (0.6, lambda p, D, L, kind: _incremented(L + 0.0 * D, p, p.d())),
    "L inc": (0.4, _filled),
    "DLD": (0.6, _between_diagonals),
    "K.T.T": (0.3, lambda p, D, L, kind: (D + L).T.T),
    "named": (1, lambda p, D, L, kind: D + L),
    "(D+L)*1": (0.3, lambda p, D, L, kind: (D + L) * 1.0 + 0.0),
}


# -- compounds -----------------------------------------------------------------------------------------


def compound_matrix(g, dim, depth):
    """A matrix made of another one; the other itself where the form needs what it lacks."""
    form = g.choose("compound", COMPOUNDS)
    A = matrix(g, dim, depth + 1)
    if A.triangle or A.singular:
        return A
    return COMPOUNDS[form](g, g.at(A.dim), A, depth) or A


def _matching(p, depth):
    """A matrix of just this order."""
    B = matrix(p.g, p.dim, depth + 1)
    return B if B.dim == p.dim and not (B.triangle or B.singular) else thin_matrix(p.g, p.dim)


def _of(f, **facts):
    """An entry that maps the matrix and keeps its facts, but for those given."""

    def make(g, p, A, depth):
        kept = {"spd": A.spd, "sym": A.sym, "thin": False, **facts}
        return Matrix(f(p, A.var), A.dim, **kept)

    return make


def _with(f, definite=True):
    """An entry of the matrix and a second one of its order."""

    def make(g, p, A, depth):
        B = _matching(p, depth)
        return Matrix(f(p, A.var, B.var), A.dim, definite and A.spd and B.spd, definite and A.sym and B.sym)

    return make


def _solved(make):
    """An entry that solves with the matrix: its condition counts."""

    def outer(g, p, A, depth):
        g.solved.append(A.var)
        return make(g, p, A, depth)

    return outer


def _block(g, p, A, depth):
    if A.dim != "n":
        return None
    B = matrix(g, "p", depth + 1)
    if B.triangle or B.singular:
        return None
    return Matrix(pl.block_diag(A.var, B.var), f"n+{B.dim}", A.spd and B.spd, A.sym and B.sym)


def _kronecker(g, p, A, depth):
    if A.dim != "n":
        return None
    B = matrix(g, "q", depth + 1)
    if B.triangle or B.singular or B.dim != "q":
        return None
    pair = g.pick([(A, B), (B, A)])
    return Matrix(pl.kron(pair[0].var, pair[1].var), "n*q", A.spd and B.spd, A.sym and B.sym)


def _schur(g, p, A, depth):
    B = g.input((A.dim, "k"), scale=0.05)
    C = thin_matrix(g, "k") if g.chance(0.4) else Matrix(g.at("k").square("spd"), "k", True, True)
    g.solved.append(C.var)
    inner = g.one_of(
        lambda: B @ pl.inv(C.var) @ B.T,
        lambda: B @ pl.solve(C.var, B.T),
        lambda: B @ pl.solve(C.var, B.T, assume_a="pos" if C.spd else "gen"),
    )
    return Matrix(A.var - inner, A.dim, False, A.sym and C.sym)


def _sandwich(p, A):
    M = p.square()
    return M @ A @ M.T


def _feeding_solve(g, p, A, depth):
    x = pl.solve(A.var, p.y())
    return Matrix(pt.outer(x, x) + pt.eye(p.order), A.dim, True, True)


def _submatrix(g, p, A, depth):
    if A.dim != "n" or not g.known("n") or g.dims["n"] < 3:
        return None
    return Matrix(A.var[1:, 1:], "n-1", A.spd, A.sym)


def _marked(g, p, A, depth):
    import autotune

    if A.var.type.numpy_dtype.kind != "f":
        return None
    return Matrix(autotune.assume_condition_number(A.var, 100.0), A.dim, A.spd, A.sym, A.thin)


def _same_thin(f, **facts):
    def make(g, p, A, depth):
        return Matrix(f(p, A.var), A.dim, **{"spd": A.spd, "sym": A.sym, "thin": A.thin, **facts})

    return make


def _masked(p, A):
    d = p.d()
    return d[:, None] * A * d[None, :]


def _permuted(p, A):
    i = pt.arange(p.order)[::-1]
    return A[i][:, i]


COMPOUNDS = {
    "block": _block,
    "kron": _kronecker,
    "inv": _solved(_of(lambda p, A: pl.inv(A))),
    "inv(inv)": _solved(_of(lambda p, A: pl.inv(pl.inv(A) + 0.0))),
    "schur": _schur,
    "product": _with(lambda p, A, B: A @ B, definite=False),
    "sandwich": _of(_sandwich),
    "permuted": _of(_permuted),
    "hadamard": _with(lambda p, A, B: A * B + 5.0 * pt.eye(p.order)),
    "sum": _with(lambda p, A, B: A + B),
    "scaled": _same_thin(lambda p, A: p.s() * A),
    "power": _of(lambda p, A: A @ A),
    "set entry": _of(lambda p, A: pt.set_subtensor(A[0, 0], p.s().astype(A.dtype) + 20), spd=False),
    "fed by a solve": _solved(_feeding_solve),
    "submatrix": _submatrix,
    "square": _of(lambda p, A: pt.sqr(A) + 3.0 * pt.eye(p.order)),
    "mask": _same_thin(_masked),
    "neg": _same_thin(lambda p, A: -A, spd=False),
    "inv+D": _solved(_of(lambda p, A: pl.inv(A) + diagonal(p.g, p.dim))),
    "scaled by logdet": _solved(_of(lambda p, A: A * pt.exp(0.1 * pt.tanh(pl.slogdet(A)[1])))),
    "condition mark": _marked,
}

FAMILIES = {
    "thin": (0.37, thin_matrix),
    "dense": (0.17, dense_matrix),
    "compound": (0.2, compound_matrix),
    "parts": (0.12, parts_matrix),
    "semidefinite": (0.04, semidefinite),
    "bands": (0.05, banded_matrix),
    "points": (0.05, matrix_of_points),
    "spaced": (0.05, evenly_spaced),
    "joins": (0.05, joined_matrix),
}
