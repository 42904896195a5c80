"""PyMC's kernels on repeated points, on grids, and of several outputs."""

import numpy as np
import pytest
from helpers import python_mode

import autotune

pm = pytest.importorskip("pymc")
pytestmark = pytest.mark.pymc

rng = np.random.default_rng(0)
M, OUTPUTS = 20, 3
TIMES = np.sort(rng.uniform(0, 5, M))
STACKED = np.c_[np.tile(TIMES, OUTPUTS), np.repeat(np.arange(OUTPUTS), M)]
REPEATED = rng.normal(size=(15, 2))[rng.integers(0, 15, 60)]


def several_outputs(length):
    W, kappa = pm.Normal("W", shape=(OUTPUTS, 2)), pm.HalfNormal("kappa", shape=OUTPUTS)
    coregion = pm.gp.cov.Coregion(2, W=W, kappa=kappa, active_dims=[1])
    return pm.gp.cov.ExpQuad(2, length, active_dims=[0]) * coregion


def repeated(length):
    return pm.gp.cov.ExpQuad(2, length)


@pytest.mark.parametrize(
    ("covariance", "X", "structure"),
    [
        pytest.param(several_outputs, STACKED, ("kronecker_noise",), id="several outputs"),
        pytest.param(repeated, REPEATED, ("diagonal", "low_rank"), id="repeated points"),
    ],
)
def test_marginal_likelihoods(covariance, X, structure):
    with pm.Model() as model:
        length, noise = pm.HalfNormal("length"), pm.HalfNormal("noise")
        gp = pm.gp.Marginal(cov_func=covariance(length))
        gp.marginal_likelihood("y", X=X, y=np.sin(X.sum(axis=1)), sigma=noise)
    point = model.initial_point()
    outputs = [model.logp(), model.dlogp()]
    plain = model.compile_fn(outputs, mode=python_mode())(point)
    with autotune.enabled() as session:
        found = model.compile_fn(outputs, mode=python_mode())(point)
    assert structure in [d.problem.structure for plan in session.plans for d in plan.decisions]
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7)
