"""PyMC's covariance functions of one column, whose distances are off by about 1e-6 where points are near."""

import numpy as np
import pytest
from helpers import largest_array, python_mode
from test_line import NOISE, N, X, check, eta, ls, rho, s

import autotune
from autotune.read.matrices import recognise

pm = pytest.importorskip("pymc")
pytestmark = pytest.mark.pymc

COVARIANCES = {
    "Matern12": lambda: eta**2 * pm.gp.cov.Matern12(1, ls)(X) + NOISE,
    "Matern32": lambda: eta**2 * pm.gp.cov.Matern32(1, ls)(X) + NOISE,
    "Matern52": lambda: eta**2 * pm.gp.cov.Matern52(1, ls)(X) + NOISE,
    "Exponential": lambda: pm.gp.cov.Exponential(1, ls)(X) + NOISE,
    "sum": lambda: (pm.gp.cov.Matern52(1, ls) + pm.gp.cov.Matern32(1, rho) + pm.gp.cov.WhiteNoise(s))(X),
    "product": lambda: (eta * pm.gp.cov.Matern32(1, ls) * pm.gp.cov.Exponential(1, rho))(X) + NOISE,
    "first of two columns": lambda: pm.gp.cov.Matern32(2, ls, active_dims=[0])(np.c_[X, X**2]) + NOISE,
}
UNREAD = {
    "two columns": lambda: pm.gp.cov.Matern32(2, ls)(np.c_[X, X**2]) + NOISE,
    "repeated points": lambda: pm.gp.cov.Matern12(1, ls)(np.repeat(X[::2], 2, axis=0)) + NOISE,
    "squared exponential": lambda: pm.gp.cov.ExpQuad(1, ls)(X) + NOISE,
}


@pytest.mark.parametrize("name", COVARIANCES)
def test_covariances_are_read(name):
    fn = check(COVARIANCES[name](), "density", tolerance=1e-5)
    assert "quasiseparable" in str(autotune.explain(fn))
    assert largest_array(fn) < N * N


@pytest.mark.parametrize("name", UNREAD)
def test_others_are_not(name):
    assert "quasiseparable" not in recognise(UNREAD[name]()).structure


def test_a_process_with_noise():
    t = np.sort(np.random.default_rng(0).uniform(0, 20, 300))
    with pm.Model() as model:
        scale, length, noise = pm.HalfNormal("scale"), pm.HalfNormal("length"), pm.HalfNormal("noise")
        gp = pm.gp.Marginal(cov_func=scale**2 * pm.gp.cov.Matern32(1, length))
        gp.marginal_likelihood("y", X=t[:, None], y=np.sin(t), sigma=noise)
    outputs = [model.logp(), model.dlogp()]
    point = {name: np.array(-0.4) for name in model.initial_point()}
    plain = model.compile_fn(outputs, mode=python_mode())(point)
    with autotune.enabled() as session:
        found = model.compile_fn(outputs, mode=python_mode())(point)
    assert [d.chosen for plan in session.plans for d in plan.decisions][-1] == "quasiseparable"
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
