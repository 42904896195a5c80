"""PyMC's Kronecker distributions, whose gradients are wrong where eigenvalues repeat."""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import python_mode, relative_error

import autotune

pm = pytest.importorskip("pymc")
pytestmark = pytest.mark.pymc

P, Q = 4, 3
HERE, THERE = np.linspace(0, 1, P), np.arange(Q)


@pytest.mark.parametrize(("kind", "rows"), [("covs", 2), ("chols", 1)])
def test_pymc(kind, rows):
    with pm.Model() as model:
        length, rho, noise = pm.HalfNormal("length"), pm.Uniform("rho"), pm.HalfNormal("noise")
        K = pt.exp(-0.5 * (HERE[:, None] - HERE) ** 2 / length**2) + 0.1 * pt.eye(P)
        C = (1 - rho) * pt.eye(Q) + rho * pt.ones((Q, Q))
        given = {"covs": [K, C], "chols": [pt.linalg.cholesky(K), pt.linalg.cholesky(C)]}[kind]
        data = np.random.default_rng(0).normal(size=(rows, P * Q)).squeeze()
        pm.KroneckerNormal("y", mu=np.zeros(P * Q), **{kind: given}, sigma=noise, observed=data)
    point = {name: np.array(0.3) for name in model.initial_point()}
    value = model.compile_fn(model.logp(), mode=python_mode())
    with autotune.enabled() as session:
        slope = model.compile_fn(model.dlogp(), mode=python_mode())(point)
    for place, name in enumerate(point):
        step = 1e-5
        above, below = ({**point, name: point[name] + sign * step} for sign in (1, -1))
        assert abs((value(above) - value(below)) / (2 * step) - slope[place]) < 1e-6
    assert any(d.problem.structure == ("kronecker_noise",) for plan in session.plans for d in plan.decisions)


def test_pymc_marginal_kron():
    with pm.Model() as model:
        length, noise = pm.HalfNormal("length"), pm.HalfNormal("noise")
        line = pm.gp.cov.Polynomial(1, c=1.0, d=1, offset=0.5)
        covs = [pm.gp.cov.ExpQuad(1, length), 0.5 * pm.gp.cov.Matern12(1, 3.0) + line]
        gp = pm.gp.MarginalKron(cov_funcs=covs)
        Xs = [HERE[:, None], THERE[:, None].astype(float)]
        gp.marginal_likelihood("y", Xs, y=np.random.default_rng(0).normal(size=P * Q), sigma=noise)
    point = {name: np.array(0.3) for name in model.initial_point()}
    value = model.compile_fn(model.logp(), mode=python_mode())
    with autotune.enabled():
        slope = model.compile_fn(model.dlogp(), mode=python_mode())(point)
        assert relative_error(model.compile_fn(model.logp(), mode=python_mode())(point), value(point)) < 1e-9
    for place, name in enumerate(point):
        above, below = ({**point, name: point[name] + sign * 1e-5} for sign in (1, -1))
        assert abs((value(above) - value(below)) / 2e-5 - slope[place]) < 1e-6
