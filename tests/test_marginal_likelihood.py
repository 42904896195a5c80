"""A Gaussian process' marginal likelihood by iteration: its value, its gradient, and where they lead."""

import numpy as np
import pytensor.tensor as pt
import pytest
from cubic import core_of
from helpers import chosen, compile_plain, compile_with, relative_error
from pytensor.assumptions import assume
from scipy.optimize import minimize

import autotune
from autotune.ops import CholeskyInverse, LanczosLogdet, PartialCholesky
from autotune.policy.files import load_policy

PIVOTED = {"name": "pivoted_cholesky", "rank": 20}
N = 80
X, y = pt.matrix("X", shape=(N, 2)), pt.vector("y", shape=(N,))
log_scale, log_noise = pt.scalar("log_scale"), pt.scalar("log_noise")
_rng = np.random.default_rng(4)
_points = _rng.uniform(size=(N, 2))
VALUES = [_points, np.sin(6 * _points[:, 0]) + 0.3 * _rng.normal(size=N), np.array(-1.0), np.array(-1.0)]
INPUTS = [X, y, log_scale, log_noise]


def marginal_likelihood():
    """Minus twice the log marginal likelihood of a Gaussian process, but for a constant."""
    distances = ((X[:, None, :] - X[None, :, :]) ** 2).sum(axis=-1)
    kernel = pt.exp(-0.5 * distances / pt.exp(2 * log_scale)) + pt.exp(2 * log_noise) * pt.eye(N)
    K = assume(kernel, positive_definite=True)
    return y @ pt.linalg.solve(K, y) + pt.linalg.slogdet(K)[1]


def exact_value_and_gradient():
    loss = marginal_likelihood()
    return compile_plain(INPUTS, [loss, *pt.grad(loss, [log_scale, log_noise])])


def iterative(**given):
    rule = {"force": "lanczos", "options": {"preconditioner": PIVOTED}}
    policy = {"accuracy": {"logdet_rtol": 0.01} | given, "rules": [rule]}
    loss = autotune.tune(marginal_likelihood(), policy)
    return compile_with(INPUTS, [loss, *pt.grad(loss, [log_scale, log_noise])], policy)


def test_value_and_gradient_of_a_marginal_likelihood_agree_with_the_exact_ones():
    fn = iterative()
    assert set(chosen(fn)) == {"lanczos"}
    ops = [type(core_of(node.op)) for node in fn.maker.fgraph.apply_nodes]
    assert ops.count(PartialCholesky) == ops.count(LanczosLogdet) == ops.count(CholeskyInverse) == 1
    value, *gradient = fn(*VALUES)
    expected, *slopes = exact_value_and_gradient()(*VALUES)
    assert abs(value - expected) < 0.01 * abs(expected)
    assert relative_error(gradient, slopes) < 1e-8


def test_an_objective_by_iteration_has_the_exact_optimum():
    """The same probes in every call, so that a quasi-Newton method converges."""
    exact, fn = exact_value_and_gradient(), iterative()

    def objective(f):
        return lambda p: (lambda value, *slopes: (float(value), np.array(slopes, dtype=float)))(
            *f(*VALUES[:2], *map(np.array, p))
        )

    best, found = (minimize(objective(f), [-1.0, -1.0], jac=True, method="L-BFGS-B") for f in (exact, fn))
    assert objective(exact)(found.x)[0] == pytest.approx(best.fun, rel=1e-2)
    first, second = fn(*VALUES), fn(*VALUES)
    np.testing.assert_array_equal(first, second)


def test_results_on_both_sides_of_the_refusal_agree():
    """A looser and a tighter tolerance, one estimated and one exact, differ by no more than the looser."""
    loose, tight = iterative()(*VALUES)[0], iterative(logdet_rtol=1e-10)(*VALUES)[0]
    assert loose != tight
    assert tight == pytest.approx(exact_value_and_gradient()(*VALUES)[0], rel=1e-9)
    assert loose == pytest.approx(tight, rel=0.01)


def test_a_plan_pins_what_was_iterated_with(tmp_path):
    fn = iterative()
    pinned = load_policy(autotune.explain(fn).save(tmp_path / "pins.yaml"), layers=False)
    assert pinned.accuracy.logdet_rtol == 0.01
    assert {rule.options.preconditioner.rank for rule in pinned.rules} == {20}


@pytest.mark.slow  # tests/ops hold each of its Ops under Numba
def test_marginal_likelihood_runs_under_numba():
    policy = {
        "accuracy": {"logdet_rtol": 0.01},
        "rules": [{"force": "lanczos", "options": {"preconditioner": PIVOTED}}],
    }
    fn = compile_with(INPUTS, [marginal_likelihood()], policy, base="NUMBA")
    [value] = fn(*VALUES)
    assert value == pytest.approx(exact_value_and_gradient()(*VALUES)[0], rel=0.01)


# -- at a realistic size ---------------------------------------------------------------------------

SIZE, RTOL = 350, 5e-3
START = np.zeros(3)
TRUE_PARAMETERS = np.log([1.5, 0.4, 0.3])
LOCATIONS = np.random.default_rng(8).uniform(size=(SIZE, 2))


def matern(exp, sqrt, eye, squares, amplitude, lengthscale, noise):
    """Matern's covariance of smoothness 5/2 and independent noise, of logarithms of the three parameters."""
    r = sqrt(5 * squares + 1e-12) / exp(lengthscale)
    return exp(2 * amplitude) * (1 + r + r**2 / 3) * exp(-r) + exp(2 * noise) * eye(SIZE)


def covariance(parameters):
    squares = ((LOCATIONS[:, None] - LOCATIONS[None]) ** 2).sum(axis=-1)
    return matern(np.exp, np.sqrt, np.eye, squares, *parameters)


def objective_of_three_parameters(policy=None):
    """``parameters -> value, gradient`` of minus twice the log marginal likelihood, but for a constant."""
    Z, values = pt.matrix("Z", shape=(SIZE, 2)), pt.vector("values", shape=(SIZE,))
    logarithms = [pt.scalar(name) for name in ("amplitude", "lengthscale", "noise")]
    squares = ((Z[:, None] - Z[None]) ** 2).sum(axis=-1)
    K = assume(matern(pt.exp, pt.sqrt, pt.eye, squares, *logarithms), positive_definite=True)
    loss = values @ pt.linalg.solve(K, values) + pt.linalg.slogdet(K)[1]
    if policy is not None:
        loss = autotune.tune(loss, policy)
    outputs, inputs = [loss, *pt.grad(loss, logarithms)], [Z, values, *logarithms]
    fn = compile_plain(inputs, outputs) if policy is None else compile_with(inputs, outputs, policy)
    draw = np.linalg.cholesky(covariance(TRUE_PARAMETERS)) @ np.random.default_rng(9).normal(size=SIZE)

    def objective(parameters):
        value, *slopes = fn(LOCATIONS, draw, *map(np.array, parameters))
        return float(value), np.array(slopes, dtype=float)

    return objective


def test_conjugate_gradients_and_lanczos_lead_to_the_exact_optimum_of_three_parameters():
    """To the tolerance that was asked of the log-determinant, though the value is an estimate."""
    rules = [
        {"match": {"request": "logdet"}, "force": "lanczos"},
        {"match": {"request": ["solve", "inv_quad"]}, "force": "cg"},
        {"options": {"preconditioner": PIVOTED}},
    ]
    policy = {"accuracy": {"logdet_rtol": RTOL}, "rules": rules}
    exact, estimated = objective_of_three_parameters(), objective_of_three_parameters(policy)
    best = minimize(exact, START, jac=True, method="L-BFGS-B")
    # until it gains less than the tolerance: below that an estimate's slope is no longer that of its value
    found = minimize(estimated, START, jac=True, method="L-BFGS-B", options={"ftol": 0.1 * RTOL})
    assert best.success
    assert found.success
    allowed = RTOL * abs(np.linalg.slogdet(covariance(best.x))[1])
    assert exact(found.x)[0] - best.fun <= allowed < 0.01 * (exact(START)[0] - best.fun)
    assert 0 < abs(found.fun - exact(found.x)[0]) <= allowed
    halfway = TRUE_PARAMETERS / 2
    assert relative_error(estimated(halfway)[1], exact(halfway)[1]) <= 1e-8
