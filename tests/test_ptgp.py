"""Gaussian processes as a library writes them, by ``inv`` and ``slogdet``: right, with few factorisations.

Three objectives: the exact marginal likelihood; the collapsed bound of Titsias (2009, "Variational
learning of inducing variables in sparse Gaussian processes"); the uncollapsed bound of Hensman et
al. (2013, "Gaussian processes for big data") with a Gaussian likelihood. All are naive: n x n matrices are
written out, and every inverse is an ``inv``.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import chosen, compile_raw, compile_with, in_turn, python_mode, relative_error
from pytensor.assumptions import assume
from pytensor.tensor.linalg import det, inv, slogdet
from scipy.stats import multivariate_normal

import autotune

JITTER = 1e-4
LOG_2PI = np.log(2 * np.pi)


def rbf(xp, X, Z, length):
    return xp.exp(-0.5 * ((X[:, None, :] - Z[None, :, :]) ** 2).sum(axis=-1) / length**2)


def matern32(xp, X, Z, length):
    r = xp.sqrt(3 * ((X[:, None, :] - Z[None, :, :]) ** 2).sum(axis=-1)) / length
    return (1 + r) * xp.exp(-r)


KERNELS = {"rbf": rbf, "matern32": matern32}


@dataclass(frozen=True)
class Model:
    """``inputs`` by name, the ``objective``, and the names of what it is differentiated by."""

    inputs: dict[str, Any]
    objective: Any
    wrt: tuple[str, ...] = ("length", "variance", "noise")

    def joint(self, objective=None):
        """Value and gradients."""
        objective = self.objective if objective is None else objective
        return [objective, *pt.grad(objective, [self.inputs[name] for name in self.wrt])]


def shared_inputs(n, m=None):
    shapes = {"X": (n, 2), "y": (n,)} | ({} if m is None else {"Z": (m, 2)})
    inputs = {name: pt.tensor(name, shape=shape) for name, shape in shapes.items()}
    return inputs | {name: pt.scalar(name) for name in ("length", "variance", "noise")}


def maybe_assume(matrix, tagged):
    return assume(matrix, positive_definite=True) if tagged else matrix


def unapproximated(kernel, n, m, tagged):
    """``log N(y | 0, K + s^2 I)``; m is not used."""
    i = shared_inputs(n)
    K = i["variance"] * kernel(pt, i["X"], i["X"], i["length"]) + i["noise"] ** 2 * pt.eye(n)
    K = maybe_assume(K, tagged)
    return Model(i, -0.5 * (i["y"] @ inv(K) @ i["y"] + slogdet(K)[1] + n * LOG_2PI))


def vfe(kernel, n, m, tagged):
    """``log N(y | 0, Q + s^2 I) - (tr Kff - tr Q) / 2 s^2``, ``Q = Kfu Kuu^-1 Kuf``."""
    i = shared_inputs(n, m)
    Kuu = i["variance"] * kernel(pt, i["Z"], i["Z"], i["length"]) + JITTER * pt.eye(m)
    Kuf = i["variance"] * kernel(pt, i["Z"], i["X"], i["length"])
    Q = Kuf.T @ inv(maybe_assume(Kuu, tagged)) @ Kuf
    K = maybe_assume(Q + i["noise"] ** 2 * pt.eye(n), tagged)
    likelihood = -0.5 * (i["y"] @ inv(K) @ i["y"] + pt.log(pt.abs(det(K))) + n * LOG_2PI)
    return Model(i, likelihood - 0.5 / i["noise"] ** 2 * (n * i["variance"] - pt.trace(Q)))


def svgp(kernel, n, m, tagged):
    """``E_q log N(y | f, s^2) - KL(q(u) | p(u))``, ``q(u) = N(mu, L L')``."""
    i = shared_inputs(n, m) | {"mu": pt.vector("mu", shape=(m,)), "L": pt.matrix("L", shape=(m, m))}
    mu, L = i["mu"], i["L"]
    Kuu = maybe_assume(i["variance"] * kernel(pt, i["Z"], i["Z"], i["length"]) + JITTER * pt.eye(m), tagged)
    Kuf = i["variance"] * kernel(pt, i["Z"], i["X"], i["length"])
    S = L @ L.T
    logdet_S = 2 * pt.log(pt.diagonal(L)).sum()
    kl = 0.5 * (pt.trace(inv(Kuu) @ S) + mu @ inv(Kuu) @ mu - m + slogdet(Kuu)[1] - logdet_S)
    mean = Kuf.T @ inv(Kuu) @ mu
    projection = inv(Kuu) @ Kuf
    variances = i["variance"] - (Kuf * projection).sum(axis=0) + (projection * (S @ projection)).sum(axis=0)
    misfit = ((i["y"] - mean) ** 2 + variances).sum() / i["noise"] ** 2
    likelihood = -0.5 * (n * (LOG_2PI + pt.log(i["noise"] ** 2)) + misfit)
    return Model(i, likelihood - kl, ("length", "variance", "noise", "mu", "L"))


MODELS = {"unapproximated": unapproximated, "vfe": vfe, "svgp": svgp}


# -- the same by NumPy, without an inverse -------------------------------------------------------------


def expected_value(name, kernel, v):
    n, s2 = len(v["y"]), v["noise"] ** 2
    if name == "unapproximated":
        K = v["variance"] * kernel(np, v["X"], v["X"], v["length"]) + s2 * np.eye(n)
        return multivariate_normal(cov=K).logpdf(v["y"])
    Kuu = v["variance"] * kernel(np, v["Z"], v["Z"], v["length"]) + JITTER * np.eye(len(v["Z"]))
    Kuf = v["variance"] * kernel(np, v["Z"], v["X"], v["length"])
    A = np.linalg.solve(Kuu, Kuf)
    slack = v["variance"] - (Kuf * A).sum(axis=0)
    if name == "vfe":
        return multivariate_normal(cov=Kuf.T @ A + s2 * np.eye(n)).logpdf(v["y"]) - 0.5 / s2 * slack.sum()
    mean = A.T @ v["mu"]
    variances = slack + ((v["L"].T @ A) ** 2).sum(axis=0)
    likelihood = multivariate_normal(mean, s2 * np.eye(n)).logpdf(v["y"]) - 0.5 / s2 * variances.sum()
    return likelihood - gaussian_divergence(v["mu"], v["L"], Kuu)


def gaussian_divergence(mu, L, K):
    """``KL(N(mu, L L') | N(0, K))`` by the eigenvalues of ``K``."""
    eigenvalues, vectors = np.linalg.eigh(K)
    whitened = np.column_stack([mu, L]).T @ vectors / np.sqrt(eigenvalues)
    return 0.5 * ((whitened**2).sum() - len(mu) + np.log(eigenvalues).sum()) - np.log(np.diag(L)).sum()


def values_of(model, seed=3):
    rng = np.random.default_rng(seed)
    values = {"length": np.array(0.7), "variance": np.array(1.3), "noise": np.array(0.4)}
    for name, variable in model.inputs.items():
        if name not in values:
            values[name] = rng.normal(size=variable.type.shape)
    if "L" in values:
        values["L"] = np.tril(0.2 * values["L"], -1) + np.diag(1 + rng.random(len(values["L"])))
    return values


# -- laws ----------------------------------------------------------------------------------------------

# Largest relative error of a value or gradient.
TOLERANCE = 1e-12
# with fewer inducing points the prices of the two ways to an inverse are within the margin
SMALL, LARGE = (20, 5), (600, 100)
# What serves small matrices, which the prices would leave as they are.
STRATEGIES = {
    tagged: {"rules": [{"force": dense}, {"match": {"structure": "low_rank"}, "force": "woodbury"}]}
    for tagged, dense in ((True, "cholesky"), (False, "lu"))
}
WAYS = ("by_the_user", "after_tune")
VARIANTS = [(name, tagged, way) for name in MODELS for tagged in (True, False) for way in WAYS]
IDS = [f"{name}-{'tagged' if tagged else 'untagged'}-{way}" for name, tagged, way in VARIANTS]


# Ops that factorise a matrix by themselves; those that use a factor are not here.
FACTORISATIONS = {
    *("Cholesky", "SharedCholesky", "LU", "LUFactor", "SharedLU", "CholeskyOrLU", "LowRankFactor"),
    *("MatrixInverse", "Det", "SLogDet", "Solve", "Eigh", "SVD", "QR"),
}
FLOOR = {"unapproximated": 1, "vfe": 2, "svgp": 1}


def factorisations(fn) -> Counter:
    cores = [getattr(node.op, "core_op", node.op) for node in fn.maker.fgraph.apply_nodes]
    return Counter(type(op).__name__ for op in cores if type(op).__name__ in FACTORISATIONS)


def joint(model, way, policy=None):
    return model.joint(autotune.tune(model.objective, policy) if way == "after_tune" else None)


@pytest.mark.parametrize("kernel", [rbf, pytest.param(matern32, marks=pytest.mark.slow)], ids=KERNELS)
@pytest.mark.parametrize(("name", "tagged", "way"), in_turn(VARIANTS, 4))
def test_value_and_gradients_with_one_factorisation_per_matrix(name, tagged, way, kernel):
    model = MODELS[name](kernel, *SMALL, tagged)
    inputs, values = list(model.inputs.values()), values_of(model)
    fn = compile_with(inputs, joint(model, way, STRATEGIES[tagged]), STRATEGIES[tagged])
    plain = MODELS[name](kernel, *SMALL, tagged=False)
    reference = compile_raw(list(plain.inputs.values()), plain.joint())
    actual, expected = (f(*(values[key] for key in model.inputs)) for f in (fn, reference))
    dense = "cholesky" if tagged else "lu"
    assert set(chosen(fn)) == {"unapproximated": {dense}, "svgp": {dense}, "vfe": {dense, "woodbury"}}[name]
    assert factorisations(fn).total() == FLOOR[name], dict(factorisations(fn))
    assert relative_error(actual[0], np.array(expected_value(name, kernel, values))) < TOLERANCE
    for a, e in zip(actual, expected, strict=True):
        assert relative_error(a, e) < TOLERANCE


@pytest.mark.parametrize(("name", "tagged", "way"), in_turn(VARIANTS, 6))
def test_one_factorisation_per_matrix_is_chosen_by_its_price(name, tagged, way):
    model = MODELS[name](rbf, *LARGE, tagged)
    fn = compile_with(list(model.inputs.values()), joint(model, way), base=python_mode())
    found = factorisations(fn)
    assert found.total() == FLOOR[name], f"{dict(found)}\n{autotune.explain(fn)}"
