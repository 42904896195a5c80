"""Toeplitz and circulant matrices: read in many spellings, values and gradients as of the dense matrix."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
import scipy.linalg
from helpers import compile_plain, compile_with, in_turn, largest_array, relative_error
from pytensor.tensor.linalg import cholesky, inv, slogdet, solve, solve_triangular

import autotune

N = 12
rng = np.random.default_rng(3)
i = np.arange(N)
LAG, STEPS_BACK = np.abs(i[:, None] - i), (i[:, None] - i) % N
x = np.linspace(0, 3, N)
y = pt.vector("y", shape=(N,))
c = pt.vector("c", shape=(N,))
a, ls, s = pt.scalars("a", "ls", "s")
INPUTS = [c, a, ls, s, y]
VALUES = {c: 0.5**i + 0.1 * np.cos(i), a: 1.2, ls: 0.7, s: 0.6, y: rng.normal(size=N)}
NOISE = s**2 * pt.eye(N)
FORCED = {"rules": [{"match": {"structure": one}, "force": one} for one in ("toeplitz", "circulant")]}


def difference(points=x):
    return pt.constant(points)[:, None] - pt.constant(points)[None, :]


def squares(points):
    """As PyMC computes them."""
    sq = pt.sqr(points)
    return pt.clip(-2 * pt.dot(points[:, None], points[None, :]) + sq[:, None] + sq[None, :], 0, np.inf)


TOEPLITZ = {
    "gather": c[LAG] + NOISE,
    "taken": a * pt.take(c, LAG) + NOISE,
    "squared exponential": a**2 * pt.exp(-0.5 * difference() ** 2 / ls**2) + NOISE,
    "squares of points": pt.exp(-0.5 * squares(pt.constant(x) / ls)) + NOISE,
    "periodic": pt.exp(-2 * (pt.sin(np.pi * difference() / a) / ls) ** 2) + NOISE,
    "rational": a * (1 + difference() ** 2 / (2 * ls**2)) ** (-1.5) + c[LAG] / 3 + 2 * NOISE,
    "decreasing points": pt.exp(-(difference(x[::-1].copy()) ** 2) / ls) + NOISE,
    "constant entries": pt.exp(-a * LAG**2.0) * ls + NOISE,
}
CIRCULANT = {
    "symmetric": c[np.minimum(LAG, N - LAG)] + NOISE,
    "kernel on a circle": pt.exp(-(np.sin(np.pi * LAG / N) ** 2) / ls) + NOISE,
    "from both ends": a * c[np.minimum(STEPS_BACK, STEPS_BACK.T)] + 2 * NOISE,
}
GENERAL = {
    "steps back": c[STEPS_BACK] + NOISE,
    "below zero": a * c[i[:, None] - i] + NOISE,
    "transposed": (c[STEPS_BACK] + a * scipy.linalg.circulant(rng.normal(size=N)) / 10).T,
}
EXACT = {**TOEPLITZ, **CIRCULANT}


def requests(K):
    L = cholesky(K)
    return {
        "density": pt.sqr(solve_triangular(L, y, lower=True)).sum() + pt.log(pt.diagonal(L)).sum(),
        "solve": solve(K, y, assume_a="pos"),
        "unknown definiteness": y @ inv(K) @ y + slogdet(K)[1],
        "inverse diagonal": pt.diagonal(inv(K)),
        "is definite": pt.all(pt.diagonal(L) > 0),
    }


def check(K, request, tolerance=1e-9, values=VALUES):
    out = requests(K)[request]
    total = pt.dot(np.arange(1, N + 1), out) if out.type.ndim else out
    used = [v for v in INPUTS if v in pytensor.graph.traversal.explicit_graph_inputs([out])]
    smooth = out.type.dtype != "bool"
    arguments = [values[v] for v in used]
    plain = compile_plain(used, [out, *(pt.grad(total, used) if smooth else ())])(*arguments)
    taken = compile_with(used, [out, *(pt.grad(total, used) if smooth else ())], FORCED)
    results = [taken(*arguments)]
    if smooth:
        tuned = autotune.tune(total, FORCED)
        results.append(compile_with(used, [out, *pt.grad(tuned, used)], FORCED)(*arguments))
    for result in results:
        for found, expected in zip(result, plain, strict=True):
            assert relative_error(found, expected) < tolerance
    return taken


@pytest.mark.parametrize("request_name", list(requests(pt.eye(N))))
@pytest.mark.parametrize("form", in_turn(EXACT, every=4))
def test_values_and_gradients_are_those_of_the_dense_matrix(form, request_name):
    fn = check(EXACT[form], request_name)
    assert ("toeplitz" if form in TOEPLITZ else "circulant") in str(autotune.explain(fn))
    if request_name == "density":
        assert largest_array(fn) < N * N


@pytest.mark.parametrize("request_name", ["unknown definiteness", "inverse diagonal"])
@pytest.mark.parametrize("form", in_turn(GENERAL))
def test_general_circulant_matrices(form, request_name):
    fn = check(GENERAL[form], request_name)
    assert "circulant" in str(autotune.explain(fn))
