"""PyMC's multivariate log-probabilities, batched too: values as by SciPy, gradients as without autotune."""

import numpy as np
import pytensor.tensor as pt
import pytest
import scipy.stats as st
from helpers import compile_raw, compile_with, in_turn, relative_error

pm = pytest.importorskip("pymc")
pytestmark = [pytest.mark.pymc, pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")]
N = 3
rng = np.random.default_rng(8)


def covariances(*batch):
    root = rng.normal(size=(*batch, N, N))
    return root @ np.swapaxes(root, -1, -2) + np.eye(N)


normal = np.vectorize(st.multivariate_normal.logpdf, signature="(n),(n),(n,n)->()")
student = np.vectorize(st.multivariate_t.logpdf, signature="(n),(n),(n,n),()->()")
wishart = np.vectorize(st.wishart.logpdf, signature="(n,n),(),(n,n)->()")


# A distribution of given parameters, its value, its parameters, and its log-probability by SciPy.
CASES = {
    "cov": (pm.MvNormal, rng.normal(size=N), {"mu": rng.normal(size=N), "cov": covariances()}, normal),
    "batched mean": (
        pm.MvNormal,
        rng.normal(size=(4, N)),
        {"mu": rng.normal(size=(4, N)), "cov": covariances()},
        normal,
    ),
    "batched cov": (
        pm.MvNormal,
        rng.normal(size=(4, N)),
        {"mu": rng.normal(size=N), "cov": covariances(4)},
        normal,
    ),
    "batched tau": (
        pm.MvNormal,
        rng.normal(size=(4, N)),
        {"mu": rng.normal(size=(4, N)), "tau": covariances(4)},
        lambda value, mu, tau: normal(value, mu, np.linalg.inv(tau)),
    ),
    "student": (
        pm.MvStudentT,
        rng.normal(size=(4, N)),
        {"mu": rng.normal(size=N), "scale": covariances(), "nu": np.array(4.0)},
        student,
    ),
    "wishart": (
        lambda nu, V: pm.Wishart.dist(nu=nu, V=V),
        covariances(),
        {"nu": np.array(5), "V": covariances()},
        wishart,
    ),
}


@pytest.mark.parametrize("name", in_turn(CASES))
def test_value_is_that_of_scipy_and_gradient_that_without_autotune(name):
    distribution, value, given, expected = CASES[name]
    make = getattr(distribution, "dist", distribution)
    parameters = {key: pt.as_tensor(v).type(key) for key, v in given.items()}
    variable = pt.as_tensor(value).type("value")
    logp = pm.logp(make(**parameters), variable)
    wrt = [v for v in (variable, *parameters.values()) if v.type.dtype == "float64"]
    outputs = [logp, *pt.grad(logp.sum(), wrt)]
    inputs = [variable, *parameters.values()]
    tuned, plain = compile_with(inputs, outputs), compile_raw(inputs, outputs)
    found, wanted = (fn(value, *given.values()) for fn in (tuned, plain))
    assert relative_error(found[0], expected(value, *given.values())) < 1e-8
    for a, e in zip(found, wanted, strict=True):
        assert relative_error(a, e) < 1e-9
