"""Whole graphs: a few matrices and what is asked of them, batches, results that feed matrices."""

import pytensor.tensor as pt
from pytensor.tensor import linalg as pl

from fuzz.batches import batched_graph
from fuzz.diagonals import diagonal
from fuzz.generator import Matrix
from fuzz.matrices import matrix, thin_matrix
from fuzz.requests import request


def graph(g):
    """The outputs of a random graph."""
    kinds = {plain_graph: 0.79, batched_graph: 0.12, complex_graph: 0.025, two_level_graph: 0.065}
    return g.pick(kinds)(g)


def plain_graph(g):
    """One or two matrices, one to four requests, at times the matrix itself or a product of results."""
    matrices = [matrix(g)]
    first = matrices[0]
    if g.chance(0.25):
        matrices.append(matrix(g))
    if g.chance(0.06) and not (first.triangle or first.singular):
        matrices.append(Matrix(first.var.T, first.dim, first.spd, first.sym, first.thin))
    outs = []
    for _ in range(g.pick({1: 0.45, 2: 0.35, 3: 0.15, 4: 0.05})):
        outs += request(g, g.pick(matrices))
    if g.chance(0.08):
        g.note("K out")
        g.requests.append("K out")
        outs.append(first.var)
    if g.chance(0.1):
        total = outs[0].sum()
        outs.append(total if "bool" in (outs[0].dtype, outs[-1].dtype) else total * outs[-1].sum())
    return outs


def complex_graph(g):
    """A complex matrix, which is nothing of ours, beside a real one."""
    g.tag("complex graph")
    g.note("complex")
    A = g.input(("n", "n"), "general", dtype="complex128", frozen=True)
    b = g.input(("n",))
    g.solved.append(pt.real(A))
    K = A + 3 * pt.eye(g.size("n"))
    outs = [pl.solve(K, b.astype("complex128")), pt.log(pt.abs(pl.det(K)))]
    outs = outs[: g.integer(1, 3)] + request(g, thin_matrix(g, "n"))
    g.all_thin = False
    return outs


def two_level_graph(g):
    """Results of one matrix make another."""
    g.tag("results feed matrices")
    A = matrix(g)
    if A.triangle or A.singular:
        A = thin_matrix(g, "n")
    g.all_thin = False
    p = g.at(A.dim)
    g.solved.append(A.var)
    x = pl.solve(A.var, p.y())
    name = g.choose("feed", FEEDING)
    B, asked = FEEDING[name](g, p, A, x)
    outs = [pl.solve(B.var, x)] if asked else [x.sum()]
    outs += request(g, B)
    return outs + (request(g, A) if asked or g.chance(0.5) else [])


def _outer(g, p, A, x):
    return Matrix(pt.outer(x, x) + pt.eye(p.order) * p.s(), A.dim, True, True, True), False


def _scale(g, p, A, x):
    scaled = A.var * pt.exp(0.01 * pt.tanh(pl.slogdet(A.var)[1]))
    return Matrix(scaled + pt.eye(p.order), A.dim, A.spd, A.sym), False


def _schur(g, p, A, x):
    U = p.u()
    C = U.T @ pl.solve(A.var, U) + 3.0 * pt.eye(g.size("k"))
    return Matrix(C, "k", A.spd, A.sym), False


def _rhs(g, p, A, x):
    U = p.u()
    B = Matrix(U @ U.T + pt.eye(p.order), A.dim, True, True, True)
    g.solved.append(B.var)
    return B, True


def _kalman(g, p, A, x):
    H = p.v()
    S = H @ A.var @ H.T + diagonal(g, "k") + 0.5 * pt.eye(g.size("k"))
    g.solved.append(S)
    gain = g.one_of(
        lambda: A.var @ H.T @ pl.inv(S),
        lambda: pl.solve(S, H @ A.var, assume_a="pos" if A.spd else "gen").T,
    )
    return Matrix(A.var - gain @ H @ A.var + 0.5 * pt.eye(p.order), A.dim, A.spd), False


FEEDING = {"outer": _outer, "scale": _scale, "schur": _schur, "rhs": _rhs, "kalman": _kalman}
