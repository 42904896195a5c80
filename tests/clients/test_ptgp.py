"""ptgp's objectives, compiled by ptgp: the same values, gradients, steps and predictions with autotune."""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import python_mode, relative_error

import autotune

pg = pytest.importorskip("ptgp")
pm = pytest.importorskip("pymc")
pytestmark = [pytest.mark.ptgp, pytest.mark.filterwarnings("ignore::FutureWarning")]
N, M = 30, 6
rng = np.random.default_rng(3)
X = np.sort(rng.uniform(0, 5, N))[:, None]
y = np.sin(X[:, 0]) + 0.1 * rng.normal(size=N)
Z = np.linspace(0.2, 4.8, M)[:, None]
# ptgp tells no sizes: left alone, small problems would stay as they are.
FORCED = {
    "rules": [
        {"match": {"structure": "dense"}, "force": "cholesky_or_lu"},
        {"match": {"structure": "low_rank"}, "force": "woodbury"},
    ]
}


def scaled(kernel):
    """A kernel with its prior, and the prior of the noise."""
    length, scale = pm.LogNormal("length"), pm.HalfNormal("scale")
    return scale**2 * kernel(input_dim=1, ls=0.3 + length), 0.1 + pm.HalfNormal("noise")


def exact(kernel=None):
    with pm.Model() as model:
        covariance, noise = scaled(kernel or pg.kernels.Matern52)
        gp = pg.gp.Unapproximated(kernel=covariance, sigma=noise)
    return model, gp, lambda *given: pg.objectives.marginal_log_likelihood(*given).mll, [], []


def linear():
    """Diagonal plus low rank, but for its unknown sizes."""
    with pm.Model() as model:
        scale = pm.HalfNormal("scale")
        gp = pg.gp.Unapproximated(
            kernel=scale**2 * pg.kernels.Linear(input_dim=1), sigma=0.3 + pm.HalfNormal("noise")
        )
    return model, gp, lambda *given: pg.objectives.marginal_log_likelihood(*given).mll, [], []


def vfe():
    inducing = pt.matrix("Z")
    with pm.Model() as model:
        covariance, noise = scaled(pg.kernels.Matern52)
        gp = pg.gp.VFE(kernel=covariance, sigma=noise, inducing_variable=pg.inducing.Points(inducing))
    return model, gp, lambda *given: pg.objectives.collapsed_elbo(*given).elbo, [inducing], [Z]


def fitc():
    model, gp, _, variables, start = vfe()
    return model, gp, lambda *given: pg.objectives.fitc_log_marginal_likelihood(*given).fitc, variables, start


def svgp(inducing=None, *, whiten=True):
    variational = pg.gp.init_variational_params(M if inducing is None else inducing.num_inducing)
    with pm.Model() as model:
        covariance, noise = scaled(pg.kernels.Matern32)
        gp = pg.gp.SVGP(
            kernel=covariance,
            likelihood=pg.likelihoods.Gaussian(sigma=noise),
            inducing_variable=inducing or pg.inducing.Points(pt.as_tensor(Z)),
            variational_params=variational,
            whiten=whiten,
        )
    variables, start = list(variational.extra_vars), list(variational.extra_init)
    return model, gp, lambda *given: pg.objectives.elbo(*given).elbo, variables, start


def fourier():
    return svgp(pg.FourierFeatures1D.from_data(X, num_frequencies=3))


MODELS = {
    "exact": exact,
    "linear": linear,
    "vfe": vfe,
    "fitc": fitc,
    "svgp": svgp,
    "svgp_unwhitened": lambda: svgp(whiten=False),
    "fourier": fourier,
}
QUICK = ("exact", "linear", "vfe")  # and Fourier features in training


def slow(name):
    return pytest.param(name, marks=pytest.mark.slow)


def compiled(compile_function, name, **kwargs):
    model, gp, objective, variables, start = MODELS[name]()
    given = {"model": model, "extra_vars": variables, "extra_init": start} if variables else {"model": model}
    made = compile_function(
        objective,
        gp,
        pt.matrix("X"),
        pt.vector("y"),
        **given,
        compile_kwargs={"mode": python_mode()},
        **kwargs,
    )
    return model, gp, made


def objective(name):
    """The function of ``theta``, and a point to begin at."""
    *_, (fun, theta, *_) = compiled(pg.optim.compile_scipy_objective, name, init="unconstrained_zero")
    return fun, theta


@pytest.mark.parametrize("name", [name if name in QUICK else slow(name) for name in MODELS])
def test_value_and_gradient_are_the_same(name):
    reference, theta = objective(name)
    with autotune.enabled(None if name in ("vfe", "fitc") else FORCED):
        tuned, _ = objective(name)
    for step in 0.2 * np.random.default_rng(5).normal(size=(3, *theta.shape)):
        (value, gradient), (expected, wanted) = (f(theta + step, X, y) for f in (tuned, reference))
        assert relative_error(value, expected) < 1e-10
        assert relative_error(gradient, wanted) < 1e-7
    decisions = autotune.explain(tuned).decisions
    assert decisions
    if name in ("exact", "linear"):  # ptgp differentiates before it compiles
        assert all(decision.before_autodiff for decision in decisions)


def trained(name):
    """The losses of three training steps, and the prediction that follows."""
    model, gp, (step, shared, extra) = compiled(pg.optim.compile_training_step, name, learning_rate=1e-2)
    losses = [float(step(X, y)) for _ in range(3)]
    data = {} if gp.extra_vars else {"X_train": X, "y_train": y}
    predict = pg.optim.compile_predict(
        gp,
        pt.matrix("X_new"),
        model,
        shared,
        shared_extras=extra,
        compile_kwargs={"mode": python_mode()},
        **data,
    )
    return step, predict, losses, predict(X[::5] + 0.01)


@pytest.mark.parametrize("name", ["fourier", slow("exact")])
def test_training_and_prediction_are_the_same_and_can_be_explained(name):
    """Those of Fourier features are wrapped by a check of their input."""
    *_, losses, expected = trained(name)
    with autotune.enabled():
        step, predict, found, predicted = trained(name)
    assert relative_error(found, losses) < 1e-9
    for a, e in zip(predicted, expected, strict=True):
        assert relative_error(a, e) < 1e-7
    assert autotune.explain(step).decisions
    assert not autotune.explain(predict).failure


def test_diagnostics_can_be_explained():
    """A closure over the compiled function."""
    with autotune.enabled(FORCED):
        model, gp, *_ = exact()
        diagnose = pg.optim.compile_scipy_diagnostics(
            pg.objectives.unapproximated_diagnostics,
            gp,
            pt.matrix("X"),
            pt.vector("y"),
            model=model,
            compile_kwargs={"mode": python_mode()},
        )
    assert {d.chosen for d in autotune.explain(diagnose).decisions} == {"cholesky_or_lu"}
