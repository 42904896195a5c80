"""PyMC's stationary covariance functions on an evenly spaced grid."""

import numpy as np
import pytest
from helpers import python_mode
from test_toeplitz import NOISE, a, check, ls, s, x

import autotune

pm = pytest.importorskip("pymc")
pytestmark = pytest.mark.pymc
X = x[:, None]

COVARIANCES = {
    "ExpQuad": lambda: a**2 * pm.gp.cov.ExpQuad(1, ls)(X) + NOISE,
    "RatQuad": lambda: pm.gp.cov.RatQuad(1, a, ls)(X) + NOISE,
    "Periodic": lambda: pm.gp.cov.Periodic(1, a, ls)(X) + NOISE,
    "sum": lambda: (pm.gp.cov.ExpQuad(1, ls) + pm.gp.cov.Cosine(1, a) + pm.gp.cov.WhiteNoise(s))(X),
    "product": lambda: (pm.gp.cov.Matern32(1, ls) * pm.gp.cov.Periodic(1, a, 1.0))(X) + NOISE,
}


@pytest.mark.parametrize("name", COVARIANCES)
def test_covariances_are_read(name):
    fn = check(COVARIANCES[name](), "density", tolerance=1e-5)
    assert "toeplitz" in str(autotune.explain(fn))


def test_a_process_with_noise():
    t = np.linspace(0, 20, 400)
    with pm.Model() as model:
        scale, length, noise = pm.HalfNormal("scale"), pm.HalfNormal("length"), pm.HalfNormal("noise")
        gp = pm.gp.Marginal(cov_func=scale**2 * pm.gp.cov.ExpQuad(1, length))
        gp.marginal_likelihood("y", X=t[:, None], y=np.sin(t), sigma=noise)
    outputs = [model.logp(), model.dlogp()]
    point = {name: np.array(-0.4) for name in model.initial_point()}
    plain = model.compile_fn(outputs, mode=python_mode())(point)
    with autotune.enabled() as session:
        found = model.compile_fn(outputs, mode=python_mode())(point)
    assert [d.chosen for plan in session.plans for d in plan.decisions][-1] == "toeplitz"
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
