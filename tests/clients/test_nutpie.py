"""nutpie samples a factor analysis through Numba: its log-probabilities and gradients are the model's."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import python_mode, relative_error

import autotune

pm = pytest.importorskip("pymc")
nutpie = pytest.importorskip("nutpie")
pytestmark = [pytest.mark.nutpie, pytest.mark.filterwarnings("ignore")]
N = 12
ROWS = np.random.default_rng(6).normal(size=(3, N))


def factor_analysis():
    with pm.Model() as model:
        w = pm.Normal("w", shape=(N, 1))
        psi = pm.HalfNormal("psi", shape=N)
        pm.MvNormal("y", 0, cov=w @ w.T + pt.diag(psi + 0.1), observed=ROWS)
    return model


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("numba", marks=pytest.mark.slow),
        pytest.param("jax", marks=[pytest.mark.jax, pytest.mark.slow]),
    ],
)
def test_draws_have_the_log_probability_and_gradient_of_the_model(backend):
    if backend == "jax":
        pytest.importorskip("jax")
    plain = factor_analysis().logp_dlogp_function(ravel_inputs=True, mode=python_mode())
    plain.set_extra_values({})
    rules = {"rules": [{"match": {"structure": "low_rank"}, "force": "woodbury"}]}
    # only what nutpie asks for itself takes Numba, not PyMC's starting points
    with pytensor.config.change_flags(linker="numba"), autotune.enabled(rules) as session:
        compiled = nutpie.compile_pymc_model(factor_analysis(), backend=backend)
    kept = {"store_gradient": True, "store_unconstrained": True}
    trace = nutpie.sample(compiled, draws=4, tune=4, chains=1, progress_bar=False, seed=1, **kept)
    wanted = "woodbury" if backend == "numba" else "keep"
    assert wanted in {d.chosen for plan in session.plans for d in plan.decisions}
    stats = trace.sample_stats.isel(chain=0)
    for point, logp, gradient in zip(
        stats["unconstrained_draw"].values, stats["logp"].values, stats["gradient"].values, strict=True
    ):
        expected, expected_gradient = plain(point)
        assert relative_error(logp, expected) < 1e-9
        assert relative_error(gradient, expected_gradient) < 1e-7
