"""Three models as one writes them down first, each compiled by plain PyTensor and with autotune."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.assumptions import assume

import autotune
from autotune.report.demo.compare import Case


@dataclass(frozen=True)
class Example:
    title: str
    about: str
    compile: Callable[[], Case]
    needs_pymc: bool = False


def gaussian_process() -> Case:
    """``-log N(y | 0, K)`` with an RBF kernel on the diabetes data, and its gradient."""
    X, y = diabetes()
    squared_distances = pytensor.shared(((X[:, None] - X[None]) ** 2).sum(axis=-1), name="squared_distances")
    eta, length, noise = parameters = pt.dscalars("eta", "length", "noise")
    K = eta**2 * pt.exp(-0.5 * squared_distances / length**2) + noise**2 * pt.eye(len(y))
    K = assume(K, positive_definite=True)
    K.name = "K"
    loss = 0.5 * (y @ pt.linalg.inv(K) @ y + pt.linalg.slogdet(K)[1])
    outputs = [loss, *pt.grad(loss, parameters)]
    plain = pytensor.function(parameters, outputs)
    tuned = pytensor.function(parameters, outputs, mode=autotune.mode())
    return Case(plain, tuned, (1.0, 3.0, 0.5), autotune.explain(tuned))


def regression_loss() -> tuple[list, pt.TensorVariable]:
    """Parameters and ``-log N(y | 0, v X X' + s^2 I)``: Bayesian linear regression on the digits data."""
    X, y = digits()
    variance, noise = pt.dscalars("variance", "noise")
    X = pytensor.shared(X, name="X")
    K = X @ X.T * variance + noise**2 * pt.eye(len(y))
    K.name = "K"
    return [variance, noise], 0.5 * (y @ pt.linalg.inv(K) @ y + pt.linalg.slogdet(K)[1])


def linear_regression() -> Case:
    """The value alone: ``mode`` is enough."""
    parameters, loss = regression_loss()
    plain = pytensor.function(parameters, [loss])
    tuned = pytensor.function(parameters, [loss], mode=autotune.mode())
    return Case(plain, tuned, (0.1, 0.7), autotune.explain(tuned))


def linear_regression_gradient() -> Case:
    """Value and gradient: ``tune`` before ``pt.grad``."""
    parameters, loss = regression_loss()
    plain = pytensor.function(parameters, [loss, *pt.grad(loss, parameters)])
    loss = autotune.tune(loss)
    tuned = pytensor.function(parameters, [loss, *pt.grad(loss, parameters)], mode=autotune.mode())
    return Case(plain, tuned, (0.1, 0.7), autotune.explain(tuned))


def factor_analysis(factors: int = 5, images: int = 8) -> Case:
    """PyMC: pixels as vectors over all images, ``cov = W W' + diag(psi)``; log-density and gradient."""
    import pymc as pm

    X, _ = digits()
    order = np.argsort(-X.var(axis=0))[:images]
    observed = X.T[order]
    n = observed.shape[1]
    with pm.Model() as model:
        W = pm.Normal("W", 0, 1, shape=(n, factors))
        psi = pm.HalfNormal("psi", 1, shape=n)
        pm.MvNormal("pixels", 0, cov=W @ W.T + pt.diag(psi), observed=observed)
    plain = model.logp_dlogp_function(ravel_inputs=True)
    with autotune.enabled():
        tuned = model.logp_dlogp_function(ravel_inputs=True)
    for function in (plain, tuned):
        function.set_extra_values({})
    point = np.random.default_rng(0).normal(scale=0.3, size=n * factors + n)
    return Case(plain, tuned, (point,), autotune.explain(tuned))


def diabetes() -> tuple[np.ndarray, np.ndarray]:
    """442 patients: 10 features and the progression of the disease, standardised."""
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True)
    return standardised(X), standardised(y)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1797 images: 64 pixels and the digit, standardised."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return standardised(X), standardised(y.astype("float64"))


def standardised(values: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1 along the first axis; a constant column becomes 0."""
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


EXAMPLES = (
    Example(
        "Gaussian process",
        "diabetes, n = 442: K = eta^2 exp(-d^2 / (2 l^2)) + s^2 I; inv(K), slogdet(K) and the gradient",
        gaussian_process,
    ),
    Example(
        "linear regression",
        "digits, n = 1797, k = 64: K = v X X' + s^2 I; inv(K) and slogdet(K)",
        linear_regression,
    ),
    Example(
        "regression + gradient",
        "the same with its gradient: autotune.tune before pt.grad",
        linear_regression_gradient,
    ),
    Example(
        "factor analysis (PyMC)",
        "digits, 8 pixels over 1797 images: MvNormal(cov=W W' + diag(psi)), 5 factors; logp and gradient",
        factor_analysis,
        needs_pymc=True,
    ),
)
