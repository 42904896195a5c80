"""PyMC's own compile functions under ``enabled()``: same values and gradients, no change to the model."""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import in_turn, op_names, python_mode, relative_error

import autotune

pm = pytest.importorskip("pymc")
pytestmark = pytest.mark.pymc
N, K = 60, 2
FORCE = {"rules": [{"match": {"structure": "low_rank", "min_n": 40}, "force": "woodbury"}]}


def observed(rows, n=N):
    rng = np.random.default_rng(1)
    return rng.normal(size=n) if rows is None else rng.normal(size=(rows, n))


def factor_analysis(rows=None, n=N):
    with pm.Model() as model:
        W = pm.Normal("W", shape=(n, K))
        psi = pm.HalfNormal("psi", shape=n)
        pm.MvNormal("y", 0, cov=W @ W.T + pt.diag(psi), observed=observed(rows, n))
    return model


def one_factor():
    with pm.Model() as model:
        w = pm.Normal("w", shape=(N, 1))
        psi = pm.HalfNormal("psi", shape=N)
        pm.MvNormal("y", 0, cov=w @ w.T + pt.diag(psi), observed=observed(3))
    return model


def identity_noise(rows=None):
    with pm.Model() as model:
        W = pm.Normal("W", shape=(N, K))
        s = pm.HalfNormal("s")
        mu = pm.Normal("mu", shape=N)
        pm.MvNormal("y", mu, cov=W @ W.T + s**2 * pt.eye(N), observed=observed(rows))
    return model


def squared_exponential(s=None):
    x = np.linspace(0, 5, N)[:, None]
    ls = pm.HalfNormal("ls")
    s = pm.HalfNormal("s")
    return pt.exp(-0.5 * (x - x.T) ** 2 / ls**2) + (s**2 + 1e-3) * pt.eye(N)


def dense(rows=None):
    with pm.Model() as model:
        pm.MvNormal("y", 0, cov=squared_exponential(), observed=observed(rows))
    return model


def dense_precision():
    with pm.Model() as model:
        pm.MvNormal("y", 0, tau=squared_exponential(), observed=observed(3))
    return model


def student_t():
    with pm.Model() as model:
        W = pm.Normal("W", shape=(N, K))
        pm.MvStudentT("y", nu=4, mu=0, scale=W @ W.T + pt.eye(N), observed=observed(3))
    return model


def from_cholesky():
    with pm.Model() as model:
        chol, _, _ = pm.LKJCholeskyCov("chol", n=4, eta=2, sd_dist=pm.Exponential.dist(1.0, shape=4))
        pm.MvNormal("y", 0, chol=chol, observed=observed(5, 4))
    return model


def marginal_gp():
    with pm.Model() as model:
        gp = pm.gp.Marginal(cov_func=pm.gp.cov.ExpQuad(1, ls=pm.HalfNormal("ls")))
        gp.marginal_likelihood(
            "y", X=np.linspace(0, 3, N)[:, None], y=observed(None), sigma=pm.HalfNormal("s")
        )
    return model


def sparse_gp():
    with pm.Model() as model:
        gp = pm.gp.MarginalApprox(cov_func=pm.gp.cov.ExpQuad(1, ls=pm.HalfNormal("ls")), approx="VFE")
        X = np.linspace(0, 3, N)[:, None]
        gp.marginal_likelihood("y", X=X, Xu=X[::10], y=observed(None), sigma=pm.HalfNormal("s"))
    return model


def latent_gp():
    with pm.Model() as model:
        gp = pm.gp.Latent(cov_func=pm.gp.cov.ExpQuad(1, ls=pm.HalfNormal("ls")))
        f = gp.prior("f", X=np.linspace(0, 3, 20)[:, None])
        pm.Normal("y", f, 1, observed=observed(None, 20))
    return model


def matrix_normal():
    with pm.Model() as model:
        s = pm.HalfNormal("s", shape=4)
        row = np.eye(5) + 0.2
        pm.MatrixNormal("y", mu=0, rowcov=row, colcov=pt.diag(s) + 0.3, observed=observed(5, 4))
    return model


def kronecker_normal():
    with pm.Model() as model:
        s = pm.HalfNormal("s")
        A, B = np.diag([1.0, 2, 3, 4]) + 0.3, np.diag([1.0, 3, 5, 7, 9]) + 0.1
        pm.KroneckerNormal(
            "y",
            mu=np.zeros(20),
            covs=[pt.as_tensor(A) * s, pt.as_tensor(B)],
            sigma=0.5,
            observed=observed(None, 20),
        )
    return model


MODELS = {
    "factor_analysis_1d": lambda: factor_analysis(),
    "factor_analysis_2d": lambda: factor_analysis(rows=4),
    "one_factor": one_factor,
    "identity_noise_1d": lambda: identity_noise(),
    "identity_noise_2d": lambda: identity_noise(rows=3),
    "dense_1d": lambda: dense(),
    "dense_2d": lambda: dense(rows=3),
    "dense_precision": dense_precision,
    "student_t": student_t,
    "from_cholesky": from_cholesky,
    "marginal_gp": marginal_gp,
    "sparse_gp": sparse_gp,
    "latent_gp": latent_gp,
    "matrix_normal": matrix_normal,
    "kronecker_normal": kronecker_normal,
}
WOODBURY = {
    "one_factor",
    "factor_analysis_1d",
    "factor_analysis_2d",
    "identity_noise_1d",
    "identity_noise_2d",
    "student_t",
}


def joint(model, **kwargs):
    fn = model.logp_dlogp_function(ravel_inputs=True, mode=python_mode(), **kwargs)
    fn.set_extra_values({})
    return fn


def start(model, seed=0):
    size = sum(v.size for v in model.initial_point().values())
    return 0.3 * np.random.default_rng(seed).normal(size=size)


# of PyMC's MatrixNormal
@pytest.mark.filterwarnings("ignore:(pytensor.tensor.linalg.trace|matrix_dot is deprecated):FutureWarning")
@pytest.mark.parametrize("name", in_turn(MODELS, 5))
def test_value_and_gradient_are_the_same(name):
    plain = joint(MODELS[name]())
    with autotune.enabled(FORCE):
        model = MODELS[name]()
        tuned = joint(model)
    for seed in range(3):
        point = start(model, seed)
        (value, gradient), (expected, expected_gradient) = tuned(point), plain(point)
        assert relative_error(value, expected) < 1e-8
        assert relative_error(gradient, expected_gradient) < 1e-8
    used = any("LowRank" in name for name in op_names(tuned._pytensor_function))
    assert used == (name in WOODBURY)


@pytest.mark.parametrize("rows", [None, 4])
def test_chosen_by_itself_for_a_large_model(rows):
    """No policy: the price decides, before PyMC differentiates, and the name of the term is known."""
    with autotune.enabled() as session:
        fn = joint(factor_analysis(rows, n=600))
    plan = autotune.explain(fn)
    assert [(d.chosen, d.problem.name, d.before_autodiff) for d in plan.decisions] == [
        ("woodbury", "y_logprob", True)
    ]
    assert plan in session.plans
    dense = 600 * 600
    arrays = [o.type.shape for n in fn._pytensor_function.maker.fgraph.apply_nodes for o in n.outputs]
    assert all(np.prod([s for s in shape if s is not None]) < dense for shape in arrays)


@pytest.mark.parametrize("structure", ["dense", "low_rank"])
def test_not_positive_definite_is_minus_infinity_as_in_pymc(structure):
    def model():
        with pm.Model() as m:
            a = pm.Normal("a")
            base = np.eye(4) if structure == "dense" else pt.outer(pt.ones(4), pt.ones(4)) + pt.eye(4)
            cov = base * a if structure == "dense" else base + pt.eye(4) * (a - 1.5)
            pm.MvNormal("y", 0, cov=cov, observed=np.ones(4))
        return m

    rules = {"rules": [{"force": "cholesky" if structure == "dense" else "woodbury"}]}
    plain = model().compile_logp(mode=python_mode())
    with autotune.enabled(rules):
        tuned = model().compile_logp(mode=python_mode())
    for a in (-1.0, 0.2, 2.0):
        expected = plain({"a": a})
        assert tuned({"a": a}) == pytest.approx(float(expected), rel=1e-10)
    assert plain({"a": -1.0}) == -np.inf


def test_forbidding_by_the_name_of_the_term():
    with autotune.enabled({"rules": [{"match": {"name": "y*"}, "forbid": ["woodbury", "cholesky"]}]}):
        fn = joint(factor_analysis(n=300))
    assert not any("LowRank" in name for name in op_names(fn._pytensor_function))


def test_compiled_wrappers_can_be_explained():
    with autotune.enabled(FORCE):
        model = factor_analysis()
        functions = [
            model.compile_logp(mode=python_mode()),
            model.compile_dlogp(mode=python_mode()),
            joint(model),
        ]
    for fn in functions:
        assert [d.chosen for d in autotune.explain(fn).decisions] == ["woodbury"]


@pytest.mark.slow  # nutpie's test holds values and gradients of such a model under Numba
def test_numba_is_the_default_mode():
    plain = factor_analysis(rows=2, n=40)
    expected = plain.compile_logp(mode=python_mode())(plain.initial_point())
    with autotune.enabled(FORCE):
        model = factor_analysis(rows=2, n=40)
        assert model.compile_logp()(model.initial_point()) == pytest.approx(float(expected), rel=1e-10)
