"""State-space models of pymc-extras: the likelihood by a Kalman filter, and its gradient, with autotune."""

import numpy as np
import pytest
from helpers import python_mode, relative_error

import autotune

pm = pytest.importorskip("pymc")
structural = pytest.importorskip("pymc_extras.statespace.models.structural")
pytestmark = [pytest.mark.pymc_extras, pytest.mark.filterwarnings("ignore")]
STEPS = 8
rng = np.random.default_rng(2)
DATA = np.cumsum(rng.normal(size=(STEPS, 2)), axis=0)
DATA[3, 0] = np.nan  # a missing observation


def model(filter_type):
    """Local levels with a trend, measured with noise."""
    names = ["first", "second"]
    level = structural.LevelTrend(order=2, observed_state_names=names)
    parts = level + structural.MeasurementError(observed_state_names=names)
    space = parts.build(verbose=False, filter_type=filter_type, mode=python_mode())
    with pm.Model(coords=space.coords) as found:
        for name in space.param_names:
            dims = space.param_dims.get(name)
            if name == "P0":
                spread = pm.HalfNormal("spread")
                pm.Deterministic("P0", (0.5 + spread) * np.eye(space.k_states), dims=dims)
            elif name.startswith("sigma"):
                pm.Gamma(name, 2, 2, dims=dims)
            else:
                pm.Normal(name, dims=dims)
        space.build_statespace_graph(DATA)
    return found


def joint(filter_type):
    found = model(filter_type)
    fn = found.logp_dlogp_function(ravel_inputs=True, mode=python_mode())
    fn.set_extra_values({})
    return fn, sum(value.size for value in found.initial_point().values())


@pytest.mark.parametrize("filter_type", ["standard", pytest.param("cholesky", marks=pytest.mark.slow)])
def test_likelihood_and_gradient_are_the_same(filter_type):
    plain, size = joint(filter_type)
    with autotune.enabled() as session:
        tuned, _ = joint(filter_type)
    assert session.plans
    for point in 0.3 * np.random.default_rng(1).normal(size=(3, size)):
        (value, gradient), (expected, wanted) = tuned(point), plain(point)
        assert np.isfinite(expected)
        assert relative_error(value, expected) < 1e-10
        assert relative_error(gradient, wanted) < 1e-8
