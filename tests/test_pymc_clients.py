"""What PyMC users call on a model gives the same under ``enabled()``: optimisers, samplers, predictions."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import in_turn, op_names, python_mode, relative_error
from pytensor.compile import mode as modes
from pytensor.graph.fg import FunctionGraph

import autotune
from autotune.algebra.requests import RequestOp
from autotune.ops._base import LinalgOp

pm = pytest.importorskip("pymc")
pytestmark = [pytest.mark.pymc, pytest.mark.filterwarnings("ignore::FutureWarning")]
N = 12
RULES = {
    "rules": [
        {"match": {"structure": "dense"}, "force": "cholesky"},
        {"match": {"structure": "low_rank"}, "force": "woodbury"},
    ]
}
# Sparse approximations use the factor of a matrix over the inducing points, which only Cholesky gives.
DENSE_RULES = {"rules": RULES["rules"][:1]}
x = np.linspace(0, 3, N)[:, None]
rng = np.random.default_rng(4)
y = np.sin(2 * x[:, 0]) + 0.1 * rng.normal(size=N)
W_fixed = rng.normal(size=(N, 2))


def factor_model(n=N):
    """One factor, in dims and coords."""
    with pm.Model(coords={"time": range(3), "place": range(n), "factor": ["only"]}) as model:
        W = pm.Normal("W", dims=("place", "factor"))
        psi = pm.HalfNormal("psi", dims="place")
        cov = W @ W.T + pt.diag(psi + 0.1)
        rows = np.random.default_rng(6).normal(size=(3, n))
        pm.MvNormal("y", 0, cov=cov, observed=rows, dims=("time", "place"))
    return model


def variance_model():
    """Two scalars over a fixed low-rank term: a unique optimum."""
    with pm.Model() as model:
        v, s = pm.HalfNormal("v"), pm.HalfNormal("s")
        pm.MvNormal("y", 0, cov=v * W_fixed @ W_fixed.T + (s**2 + 0.1) * pt.eye(N), observed=y)
    return model


def covariance():
    return pm.gp.cov.ExpQuad(1, ls=0.5 + pm.HalfNormal("ls"))


def marginal_conditional():
    with pm.Model() as model:
        gp = pm.gp.Marginal(cov_func=covariance())
        gp.marginal_likelihood("y", X=x, y=y, sigma=0.2 + pm.HalfNormal("s"))
        gp.conditional("f", Xnew=np.array([[0.4], [2.2]]), pred_noise=True)
    return model


def latent_conditional():
    with pm.Model() as model:
        gp = pm.gp.Latent(cov_func=covariance() + pm.gp.cov.WhiteNoise(0.3))
        f = gp.prior("f", X=x, reparameterize=False)
        gp.conditional("g", Xnew=np.array([[0.4], [2.2]]), jitter=0.1)
        pm.Normal("y", f, 1, observed=y)
    return model


def approximate(approx):
    with pm.Model() as model:
        gp = pm.gp.MarginalApprox(cov_func=covariance(), approx=approx)
        gp.marginal_likelihood("y", X=x, Xu=x[::3] + 0.05, y=y, sigma=0.2 + pm.HalfNormal("s"))
        gp.conditional("f", Xnew=np.array([[0.4], [2.2]]), pred_noise=True)
    return model


def kronecker():
    with pm.Model() as model:
        gp = pm.gp.MarginalKron(cov_funcs=[covariance(), pm.gp.cov.Matern32(1, ls=0.7)])
        gp.marginal_likelihood("y", Xs=[x[:3], x[:4]], y=y, sigma=0.2 + pm.HalfNormal("s"))
    return model


MODELS = {
    "factor": factor_model,
    "variance": variance_model,
    "VFE": lambda: approximate("VFE"),
    "latent_conditional": latent_conditional,
    "FITC": lambda: approximate("FITC"),
    "DTC": lambda: approximate("DTC"),
    "marginal_conditional": marginal_conditional,
    "marginal_kron": kronecker,
}
SPARSE = {"FITC", "DTC", "VFE"}


def joint(model):
    fn = model.logp_dlogp_function(ravel_inputs=True, mode=python_mode())
    fn.set_extra_values({})
    return fn


def points(model, count=5):
    size = sum(v.size for v in model.initial_point().values())
    return 0.3 * np.random.default_rng(8).normal(size=(count, size))


@pytest.mark.parametrize("name", in_turn(MODELS, 8))
def test_value_and_gradient_at_random_points(name):
    plain = joint(MODELS[name]())
    with autotune.enabled(DENSE_RULES if name in SPARSE else RULES) as session:
        model = MODELS[name]()
        tuned = joint(model)
    # MarginalKron diagonalises its factors: nothing is solved
    assert bool(session.plans) == (name != "marginal_kron")
    for point in points(model):
        (value, gradient), (expected, expected_gradient) = tuned(point), plain(point)
        assert relative_error(value, expected) < 1e-10
        assert relative_error(gradient, expected_gradient) < 1e-8


def test_dims_do_not_hide_structure_from_autodiff():
    """Value variables with dims have no static shape before autodiff: the choice waits until they have."""
    with autotune.enabled():
        fn = joint(factor_model(n=600))
    [decision] = autotune.explain(fn).decisions
    assert (decision.chosen, decision.problem.n, decision.problem.sizes["rank"]) == ("woodbury", 600, 1)
    assert not any("Cholesky" in name for name in op_names(fn._pytensor_function))


def test_a_rule_with_a_size_holds_when_the_size_is_known_after_autodiff_only():
    rule = {"match": {"structure": "low_rank", "min_n": 100}, "force": "woodbury"}
    with autotune.enabled({"rules": [rule]}):
        fn = joint(factor_model(n=120))
    assert [d.chosen for d in autotune.explain(fn).decisions] == ["woodbury"]


def test_dims_without_static_sizes_anywhere_stay_right():
    point = factor_model(n=30).initial_point()

    def at_point():
        model = factor_model(n=30)
        return model.compile_fn([model.logp(), model.dlogp()], mode=python_mode())(point)

    value, gradient = at_point()
    with autotune.enabled():
        found = at_point()
    assert relative_error(found[0], value) < 1e-12
    assert relative_error(found[1], gradient) < 1e-10


@pytest.mark.slow
def test_hessian_is_the_same():
    """Python only: PyTensor would build a loop in C."""
    with pytensor.config.change_flags(cxx=""):
        model = variance_model()
        point = {"v_log__": np.array(0.2), "s_log__": np.array(-0.5)}
        expected = model.compile_d2logp(mode=python_mode(), negate_output=False)(point)
        with autotune.enabled(RULES):
            fn = variance_model().compile_d2logp(mode=python_mode(), negate_output=False)
        assert relative_error(fn(point), expected) < 1e-8


def test_find_map_finds_the_same():
    def run():
        with pytensor.config.change_flags(linker="py"):  # PyMC 6.3 takes no mode
            return pm.find_MAP(model=variance_model(), progressbar=False)

    expected = run()
    with autotune.enabled(RULES) as session:
        found = run()
    assert {d.chosen for plan in session.plans for d in plan.decisions} == {"woodbury"}
    for name in ("v", "s"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6)


@pytest.mark.parametrize(
    "compile_kwargs",
    [{"mode": python_mode()}, pytest.param(None, marks=pytest.mark.slow)],
    ids=["python", "numba"],
)
def test_nuts_runs_to_the_end(compile_kwargs):
    with autotune.enabled(RULES) as session:
        trace = pm.sample(
            draws=4,
            tune=4,
            chains=2,
            cores=1,
            model=factor_model(),
            random_seed=1,
            nuts_sampler="pymc",
            progressbar=False,
            compute_convergence_checks=False,
            compile_kwargs=compile_kwargs,
        )
    assert {d.chosen for plan in session.plans for d in plan.decisions} == {"woodbury"}
    assert trace.posterior["W"].shape == (2, 4, N, 1)
    assert all(np.isfinite(values).all() for values in trace.posterior.data_vars.values())


def test_posterior_predictive_draws_are_the_same():
    posterior = [{"v": np.array(v), "s": np.array(s)} for v, s in ((0.5, 0.3), (1.2, 0.8))]

    def draw():
        with variance_model():
            return pm.sample_posterior_predictive(
                posterior, random_seed=3, progressbar=False, compile_kwargs={"mode": python_mode()}
            ).posterior_predictive["y"]

    expected = draw()
    with autotune.enabled(RULES):
        assert relative_error(draw(), expected) < 1e-10


@pytest.mark.parametrize(
    ("method", "samples"),
    [
        ("advi", 1),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [("fullrank_advi", 1), ("advi", 2)]),
    ],
)
def test_advi_takes_the_same_steps(method, samples):
    """PyMC differentiates the objective by itself. With several samples it does so around a loop, in which
    nothing is decided before."""

    def history():
        return pm.fit(
            5,
            method=method,
            model=variance_model(),
            progressbar=False,
            random_seed=1,
            obj_n_mc=samples,
            compile_kwargs={"mode": python_mode()},
        ).hist

    expected = history()
    with autotune.enabled(RULES) as session:
        found = history()
    decided = {(d.chosen, d.before_autodiff) for plan in session.plans for d in plan.decisions}
    assert decided == {("woodbury", samples == 1)}
    assert relative_error(found, expected) < 1e-10


def predictions():
    with pm.Model():
        gp = pm.gp.Marginal(cov_func=pm.gp.cov.ExpQuad(1, ls=0.8))
        gp.marginal_likelihood("y", X=x, y=y, sigma=0.3)
        return gp.predict(np.array([[0.4], [2.2]]), point={}, diag=False)


def test_gp_predict_gives_the_same_mean_and_covariance():
    with pytensor.config.change_flags(linker="py"):
        expected = predictions()
        with autotune.enabled(RULES) as session:
            found = predictions()
    assert session.plans
    for a, e in zip(found, expected, strict=True):
        assert relative_error(a, e) < 1e-10


# -- data whose size changes after compilation ---------------------------------------------------------


def linear_model():
    """Marginal linear regression on mutable data, its sizes in dims."""
    with pm.Model(coords={"row": range(N), "column": ["a", "b"]}) as model:
        X = pm.Data("X", W_fixed, dims=("row", "column"))
        s = pm.HalfNormal("s")
        noise = (s**2 + 0.1) * pt.eye(X.shape[0])
        pm.MvNormal("y", 0, cov=X @ X.T + noise, observed=pm.Data("Y", y, dims="row"), dims="row")
    return model


@pytest.mark.parametrize("rows", [1, 2, 5, 30])
def test_data_of_another_size_after_compilation(rows, compiled_linear_models):
    values = np.random.default_rng(rows).normal(size=(rows, 3))
    results = []
    for model, fn in compiled_linear_models:
        with model:
            pm.set_data({"X": values[:, :2], "Y": values[:, 2]}, coords={"row": range(rows)})
        results.append(fn(np.array([0.3])))
    for a, e in zip(*results, strict=True):
        assert relative_error(a, e) < 1e-10


@pytest.fixture(scope="module")
def compiled_linear_models():
    """The model and its function, tuned and plain."""
    plain = linear_model()
    pairs = [(plain, joint(plain))]
    with autotune.enabled({"rules": [{"force": "woodbury"}]}) as session:
        model = linear_model()
        pairs.insert(0, (model, joint(model)))
    assert {d.chosen for plan in session.plans for d in plan.decisions} == {"woodbury"}
    return pairs


# -- matrices that are not positive definite -----------------------------------------------------------


def shifted(kind, structure):
    """Positive definite for ``a > 0`` only: eigenvalues a and above."""
    with pm.Model() as model:
        a = pm.Normal("a")
        base = pt.outer(pt.ones(N), pt.ones(N)) if structure == "low_rank" else pt.as_tensor(SPREAD)
        matrix = base + a * pt.eye(N)
        if kind == "student_t":
            pm.MvStudentT("y", nu=4, mu=0, scale=matrix, observed=y)
        else:
            pm.MvNormal("y", 0, **{kind: matrix}, observed=y)
    return model


_Q = np.linalg.qr(rng.normal(size=(N, N)))[0]
SPREAD = (_Q * np.arange(N)) @ _Q.T


@pytest.mark.parametrize("structure", ["dense", "low_rank"])
@pytest.mark.parametrize("kind", ["cov", "tau", "student_t"])
def test_not_positive_definite_is_minus_infinity(kind, structure):
    plain = shifted(kind, structure).compile_logp(mode=python_mode())
    with autotune.enabled(RULES) as session:
        tuned = shifted(kind, structure).compile_logp(mode=python_mode())
    wanted = "woodbury" if structure == "low_rank" else "spectrum"
    assert wanted in {d.chosen for plan in session.plans for d in plan.decisions}
    for a in (-5.0, -0.5, -1e-3):
        assert plain({"a": a}) == tuned({"a": a}) == -np.inf
    for a in (1e-3, 0.7):
        assert tuned({"a": a}) == pytest.approx(float(plain({"a": a})), rel=1e-9)


# -- other linkers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [None, "cholesky"])
def test_jax_gets_no_operation_of_ours(strategy):
    """What ``pm.sample(nuts_sampler="numpyro")`` does with the model before it converts the graph."""
    policy = strategy and {"rules": [{"match": {"structure": "dense"}, "force": strategy}]}
    with autotune.enabled(policy) as session:
        for model in (factor_model(), marginal_conditional()):
            fgraph = FunctionGraph(outputs=[model.logp()], clone=True)
            modes.JAX.optimizer.rewrite(fgraph)
            cores = [getattr(node.op, "core_op", node.op) for node in fgraph.apply_nodes]
            assert not any(isinstance(op, LinalgOp | RequestOp) for op in cores)
    assert len(session.plans) == 2


def test_jax_gives_the_same_value():
    pytest.importorskip("jax")
    point = factor_model().initial_point()
    expected = factor_model().compile_logp(mode=python_mode())(point)
    with autotune.enabled():
        found = factor_model().compile_logp(mode="JAX")(point)
    assert found == pytest.approx(float(expected), rel=1e-8)
