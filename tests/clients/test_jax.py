"""Models compiled for JAX: the same values and gradients, and a plan that names what runs there."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_with, forced, python_mode, relative_error
from pytensor.tensor.linalg import inv, slogdet

import autotune
from autotune.algebra.requests import RequestOp
from autotune.choose import strategy
from autotune.ops._base import LinalgOp

pm = pytest.importorskip("pymc")
pytest.importorskip("jax")
pytestmark = [pytest.mark.jax, pytest.mark.filterwarnings("ignore")]
N = 12
rng = np.random.default_rng(6)
ROWS = rng.normal(size=(3, N))


def factor_analysis():
    """All variables are real numbers, so that a draw is a point of the log-probability."""
    with pm.Model() as model:
        W = pm.Normal("W", shape=(N, 2))
        log_psi = pm.Normal("log_psi", shape=N)
        pm.MvNormal("y", 0, cov=W @ W.T + pt.diag(pt.exp(log_psi) + 0.1), observed=ROWS)
    return model


def joint(model, mode):
    fn = model.logp_dlogp_function(ravel_inputs=True, mode=mode)
    fn.set_extra_values({})
    return fn


def assert_named_truly(fn):
    """No operation of ours in the graph, and no strategy in the plan that needs one."""
    compiled = getattr(fn, "_pytensor_function", fn)
    cores = [getattr(node.op, "core_op", node.op) for node in compiled.maker.fgraph.apply_nodes]
    assert not any(isinstance(op, LinalgOp | RequestOp) for op in cores)
    decisions = autotune.explain(fn).decisions
    assert decisions
    for decision in decisions:
        assert not any(strategy(name).needs_own_ops for name in decision.assignment)
        assert decision.winner.name == decision.chosen == "+".join(dict.fromkeys(decision.assignment))
    return decisions


def test_value_and_gradient_are_the_same_and_the_plan_says_what_runs():
    """PyMC decides before it differentiates, when JAX is not yet in sight."""
    plain = joint(factor_analysis(), python_mode())
    with autotune.enabled(forced("woodbury")):
        tuned = joint(factor_analysis(), "JAX")
    [decision] = assert_named_truly(tuned)
    assert (decision.chosen, decision.before_autodiff) == ("keep", True)
    assert "woodbury was chosen before autodiff, but the linker" in decision.winner.reason
    assert "cannot run its operations" in decision.candidate("woodbury").reason
    for point in 0.3 * np.random.default_rng(1).normal(size=(3, 3 * N)):
        (value, gradient), (expected, wanted) = tuned(point), plain(point)
        assert relative_error(value, expected) < 1e-10
        assert relative_error(gradient, wanted) < 1e-8


def test_a_tuned_expression_says_what_runs_and_at_what_price():
    A, b = pt.matrix("A", shape=(300, 300)), pt.vector("b", shape=(300,))
    loss = autotune.tune(slogdet(A)[1] + b @ inv(A) @ b)
    outputs = [loss, *pt.grad(loss, [A, b])]
    [here] = autotune.explain(compile_with([A, b], outputs)).decisions
    [there] = assert_named_truly(pytensor.function([A, b], outputs, mode=autotune.mode(base="JAX")))
    assert (here.chosen, there.chosen) == ("cholesky_or_lu", "keep")
    assert there.winner.seconds > here.winner.seconds


@pytest.mark.slow
def test_numpyro_draws_from_the_same_log_probability():
    pytest.importorskip("numpyro")
    model = factor_analysis()
    plain = model.compile_logp(mode=python_mode())
    with autotune.enabled() as session:
        trace = pm.sample(
            draws=3,
            tune=3,
            chains=1,
            model=factor_analysis(),
            random_seed=1,
            nuts_sampler="numpyro",
            progressbar=False,
            compute_convergence_checks=False,
        )
    assert not any(strategy(d.chosen).needs_own_ops for plan in session.plans for d in plan.decisions)
    draws = trace.posterior.isel(chain=0)
    for i, lp in enumerate(trace.sample_stats["lp"].values[0]):
        value = plain({name: draws[name].values[i] for name in ("W", "log_psi")})
        assert abs(float(lp)) == pytest.approx(abs(float(value)), rel=1e-6)  # numpyro gives the negative
