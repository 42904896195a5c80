"""Covariances of points on a line: read in many spellings, values and gradients as of the dense matrix."""

import pickle

import mpmath
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_raw, compile_with, in_turn, largest_array, relative_error
from pytensor.graph.basic import Constant
from pytensor.tensor.linalg import cholesky, inv, kron, slogdet, solve, solve_triangular

import autotune
from autotune.read.matrices import recognise

N = 12
rng = np.random.default_rng(3)
t = np.sort(rng.uniform(0, 6, N))
X, D, LAG = t[:, None], np.abs(t[:, None] - t), np.abs(np.arange(N)[:, None] - np.arange(N))
y = pt.vector("y", shape=(N,))
ls, s, eta, rho = pt.scalars("ls", "s", "eta", "rho")
d = pt.vector("d", shape=(N,))
INPUTS = [ls, s, eta, rho, d, y]
VALUES = {ls: 1.3, s: 0.6, eta: 1.2, rho: 0.4, d: rng.uniform(0.1, 0.4, N), y: rng.normal(size=N)}
NOISE = s**2 * pt.eye(N)
FORCED = {"rules": [{"match": {"structure": "quasiseparable"}, "force": "quasiseparable"}]}


def matern32(r):
    return (1 + np.sqrt(3) * r) * pt.exp(-np.sqrt(3) * r)


def distance(scale=ls):
    return pt.abs(pt.constant(t)[:, None] - pt.constant(t)[None, :]) / scale


EXACT = {
    "constant distances": eta**2 * pt.exp(-D / ls) + NOISE,
    "a row of diagonals": pt.exp(-distance()) + pt.diag(d) + NOISE,
    "Matern 3/2": eta**2 * matern32(distance()) + NOISE,
    "Matern 5/2": (1 + np.sqrt(5) * distance() + 5 / 3 * distance() ** 2) * pt.exp(-np.sqrt(5) * distance())
    + NOISE,
    "root of squares": eta * matern32(pt.sqrt(pt.sqr(pt.constant(X) - t) / ls**2 + 1e-30)) + NOISE,
    "AR(1)": eta**2 * rho**LAG / (1 - rho**2),
    "AR(1) and noise": (eta * rho**LAG + NOISE) * 2,
    "irregular powers": eta * rho**D + pt.diag(d),
    "sum": matern32(distance()) + eta * pt.exp(-distance(rho)) + NOISE,
    "product": matern32(distance()) * pt.exp(-eta * distance(rho)) + NOISE,
    "constant and kernel": eta * matern32(distance()) + rho + NOISE,
    "decreasing points": matern32(pt.abs(pt.constant(-t)[:, None] + t) / ls) + NOISE,
    "repeated points": matern32(np.abs(np.repeat(t[::2], 2)[:, None] - np.repeat(t[::2], 2)) / ls) + NOISE,
}


def requests(K):
    L = cholesky(K)
    return {
        "density": pt.sqr(solve_triangular(L, y, lower=True)).sum() + pt.log(pt.diagonal(L)).sum(),
        "solve": solve(K, y, assume_a="pos"),
        "unknown definiteness": y @ inv(K) @ y + slogdet(K)[1],
        "inverse diagonal": pt.diagonal(inv(K)),
        "is definite": pt.all(pt.diagonal(L) > 0),
    }


DENSE = ["keep", "cholesky", "cholesky_or_lu", "lu", "cg", "lanczos"]
BY_PARTS = {"rules": [{"match": {"structure": "quasiseparable"}, "forbid": DENSE}]}


def check(K, request, tolerance=1e-9, values=VALUES, policy=FORCED):
    out = requests(K)[request]
    total = pt.dot(np.arange(1, N + 1), out) if out.type.ndim else out
    used = [v for v in INPUTS if v in pytensor.graph.traversal.explicit_graph_inputs([out])]
    smooth = out.type.dtype != "bool"
    arguments = [values[v] for v in used]
    plain = compile_raw(used, [out, *(pt.grad(total, used) if smooth else ())])(*arguments)
    taken = compile_with(used, [out, *(pt.grad(total, used) if smooth else ())], policy)
    results = [taken(*arguments)]
    if smooth:
        tuned = autotune.tune(total, policy)
        results.append(compile_with(used, [out, *pt.grad(tuned, used)], policy)(*arguments))
    for result in results:
        for found, expected in zip(result, plain, strict=True):
            assert relative_error(found, expected) < tolerance
    return taken


@pytest.mark.parametrize("request_name", list(requests(pt.eye(N))))
@pytest.mark.parametrize("form", in_turn(EXACT, every=8))
def test_values_and_gradients_are_those_of_the_dense_matrix(form, request_name):
    fn = check(EXACT[form], request_name)
    assert "quasiseparable" in str(autotune.explain(fn))
    if request_name == "density":
        assert largest_array(fn) < N * N


def structure(K) -> tuple[str, ...]:
    return recognise(K).structure


UNREAD = {
    "squared exponential": pt.exp(-(distance() ** 2)) + NOISE,
    "unsorted": matern32(np.abs(t[::-1][rng.permutation(N)][:, None] - t) / ls) + NOISE,
    "shuffled": matern32(pt.abs(pt.constant(x := rng.permutation(t))[:, None] - x) / ls) + NOISE,
    "rational": 1 / (1 + distance()) + NOISE,
    "negative squares": pt.exp(-pt.sqrt(pt.maximum(ls * LAG**2, 0))) + NOISE,
    "points that change": matern32(pt.abs(d[:, None] - d) / ls) + NOISE,
    "scales of each point": matern32(pt.abs(pt.constant(t)[:, None] - t) / d) + NOISE,
    "few points": matern32(np.abs(t[:6, None] - t[:6]) / ls) + s * pt.eye(6),
    "no kernel": pt.constant(LAG * 1.0) * 0 + NOISE,
}


@pytest.mark.parametrize("form", UNREAD)
def test_other_matrices_are_not_read(form):
    assert "quasiseparable" not in structure(UNREAD[form])


@pytest.mark.parametrize("power", in_turn([-0.7, 1.0]))
def test_powers_of_any_sign(power):
    values = {**VALUES, rho: power}
    check((eta * rho**LAG + NOISE), "density", values=values)


def test_a_power_of_zero_has_a_gradient():
    """PyTensor's own is NaN there."""
    value = requests(eta * rho**LAG + NOISE)["density"]
    outs = [value, pt.grad(value, rho)]
    found, slope = compile_with(INPUTS, outs, FORCED)(*{**VALUES, rho: 0.0}.values())
    beside, _ = compile_with(INPUTS, outs, FORCED)(*{**VALUES, rho: 1e-7}.values())
    assert slope == pytest.approx((beside - found) / 1e-7, rel=1e-4)


def test_what_is_not_positive_definite_has_no_factor_and_else_dense_routines():
    K = NOISE - eta * matern32(distance())
    outputs = requests(K)
    for outs in ([outputs["density"], outputs["is definite"]], [outputs["unknown definiteness"]]):
        fn, plain = compile_with(INPUTS, outs, FORCED), compile_raw(INPUTS, outs)
        for found, expected in zip(fn(*VALUES.values()), plain(*VALUES.values()), strict=True):
            assert np.allclose(found, expected, rtol=1e-10, equal_nan=True)


def test_nan_and_single_precision():
    K = EXACT["Matern 3/2"]
    fn = compile_with(INPUTS, requests(K)["density"], FORCED)
    assert np.isnan(fn(*({**VALUES, ls: np.nan}.values())))
    a, noise = (pt.scalar(name, dtype="float32") for name in ("a", "noise"))
    z = pt.vector("z", shape=(N,), dtype="float32")
    K = pt.exp(-D.astype("float32") / a) + noise * pt.eye(N, dtype="float32")
    outs = [z @ solve(K, z, assume_a="pos"), slogdet(K)[1]]
    outs += pt.grad(outs[0] + outs[1], [a, noise])
    assert "quasiseparable" in structure(K)
    values = (np.float32(1.3), np.float32(0.5), VALUES[y].astype("float32"))
    found, expected = (
        compile_with([a, noise, z], outs, FORCED)(*values),
        compile_raw([a, noise, z], outs)(*values),
    )
    for one, other, out in zip(found, expected, outs, strict=True):
        assert one.dtype == out.type.dtype
        assert relative_error(one, other) < 1e-4


COMPOSED = {
    "plus low rank": EXACT["Matern 3/2"] + eta * pt.outer(pt.constant(t), pt.constant(t)),
    "a factor of a Kronecker product": kron(pt.stack([[2.0, rho], [rho, 2.0]]), EXACT["Matern 3/2"])[:N, :N]
    * 2,
    "scaled": pt.diag(d) @ EXACT["Matern 3/2"] @ pt.diag(d),
    "a multiple": EXACT["Matern 3/2"] / eta,
}


@pytest.mark.parametrize("form", in_turn(COMPOSED))
def test_inside_other_matrices(form):
    check(COMPOSED[form], "density", tolerance=1e-8, policy=BY_PARTS)


def constants_of(fgraph):
    """Those of a graph and of the graphs in it."""
    for node in fgraph.apply_nodes:
        yield from (i for i in node.inputs if isinstance(i, Constant))
        if hasattr(node.op, "fgraph"):
            yield from constants_of(node.op.fgraph)


def test_no_constant_is_made_for_dense_routines():
    """Where they may have to take over, they make the matrix when they do."""
    n = 70
    x = np.sort(rng.uniform(0, 6, n))
    K = matern32(pt.abs(pt.constant(x)[:, None] - x) / ls) + s**2 * pt.eye(n)
    fn = compile_with([ls, s], slogdet(K)[1], FORCED)
    assert max(np.size(c.data) for c in constants_of(fn.maker.fgraph)) < n * n


def test_second_derivatives():
    K = EXACT["Matern 3/2"]
    value = y @ solve(K, y, assume_a="pos") + slogdet(K)[1]
    gradient = pt.stack(pt.grad(autotune.tune(value, FORCED), [ls, s, eta]))
    found = [pt.grad(gradient[i], [ls, s, eta]) for i in range(3)]
    plain = [pt.grad(g, [ls, s, eta]) for g in pt.grad(value, [ls, s, eta])]
    flat = [pt.stack([pt.stack(row) for row in rows]) for rows in (found, plain)]
    ours, dense = compile_with(INPUTS, flat[0], FORCED), compile_raw(INPUTS, flat[1])
    assert relative_error(ours(*VALUES.values()), dense(*VALUES.values())) < 1e-9


def test_under_numba_and_pickled():
    K = EXACT["sum"]
    value = requests(K)["density"]
    outs = [value, *pt.grad(value, [ls, s, eta, rho, y])]
    used = [ls, s, eta, rho, y]
    fn = pytensor.function(used, outs, mode=autotune.mode(FORCED, base="NUMBA"))
    assert "quasiseparable" in str(autotune.explain(fn))
    plain = compile_raw(used, outs)(*(VALUES[v] for v in used))
    for one in (fn, pickle.loads(pickle.dumps(fn))):
        for found, expected in zip(one(*(VALUES[v] for v in used)), plain, strict=True):
            assert relative_error(found, expected) < 1e-9


def exact(noise, length=1.3):
    """``log det K`` and ``y' K^-1 y`` in 50 digits, and the derivative of their sum by the length scale."""
    mp = mpmath.mp.clone()
    mp.dps = 50

    def value(scale):
        root = mp.sqrt(3)
        K = mp.matrix(N, N)
        for i in range(N):
            for j in range(N):
                r = root * abs(mp.mpf(t[i]) - mp.mpf(t[j])) / scale
                K[i, j] = (1 + r) * mp.exp(-r) + (mp.mpf(noise) if i == j else 0)
        z = mp.matrix(VALUES[y].tolist())
        return mp.log(mp.det(K)) + (z.T * mp.lu_solve(K, z))[0]

    return float(value(mp.mpf(length))), float(mp.diff(value, mp.mpf(length), h=mp.mpf(10) ** -20))


@pytest.mark.parametrize("noise", in_turn([1e-8, 1.0, 1e-12, 1e-4]))
def test_as_accurate_as_a_dense_factor(noise):
    K = matern32(distance()) + s * pt.eye(N)
    value = y @ solve(K, y, assume_a="pos") + slogdet(K)[1]
    outs = [value, pt.grad(value, ls)]
    arguments = {**VALUES, s: noise}.values()
    ours, dense = (
        compiled(*arguments) for compiled in (compile_with(INPUTS, outs, FORCED), compile_raw(INPUTS, outs))
    )
    for found, plain, expected in zip(ours, dense, exact(noise), strict=True):
        assert abs(found - expected) <= 10 * abs(plain - expected) + 1e-13 * abs(expected)
