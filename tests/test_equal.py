"""Equal matrices are one problem with one factorisation, however each use writes them; others stay apart."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from cubic import factorisations, named
from helpers import compile_raw, compile_with, forced, in_turn, python_mode, relative_error
from pytensor.tensor.linalg import cholesky, inv, slogdet, solve

import autotune

pm = pytest.importorskip("pymc")
N = 30
RNG = np.random.default_rng(4)
T = np.linspace(0, 3, N)
ABOVE_KEEP = {"margin": 0, "rules": [{"forbid": ["keep"]}]}
x, y, d = (pt.vector(name, shape=(N,)) for name in ("x", "y", "d"))
s, t = pt.scalars("s", "t")
INPUTS = [x, y, d, s, t]
POINT = [T, RNG.normal(size=N), RNG.uniform(1, 2, N), np.array(1.3), np.array(0.4)]


def kernel(terms=None):
    distances = pt.constant((T[:, None] - T) ** 2)
    smooth, noise = s**2 * pt.exp(-0.5 * distances / (t + 0.5) ** 2), 1e-2 * pt.eye(N)
    return smooth + noise if terms is None else terms(smooth, noise)


def from_columns():
    return pt.exp(-((x[:, None] - x) ** 2) / t**2) + (d**2)[:, None] * pt.eye(N)


def rough():
    return s**2 * pt.exp(-abs(T[:, None] - T) / t)


def symmetrised(K):
    return 0.5 * (K + K.T)


SPELLINGS = {
    "again": (kernel(), kernel()),
    "terms in another order": (kernel(), kernel(lambda a, b: b + a)),
    "factors in another order": (
        kernel(),
        pt.exp(-0.5 * (T[:, None] - T) ** 2 / (0.5 + t) ** 2) * s**2 + 1e-2 * pt.eye(N),
    ),
    "plus zero": (kernel(), kernel() + 0),
    "transposed": (kernel(), kernel().T),
    "symmetrised": (kernel(), symmetrised(kernel())),
    "symmetrised and halved": (kernel(), (kernel() + kernel().T) / 2),
    "symmetrised product": (rough(), symmetrised(rough())),
    "identity as an array": (kernel(), kernel(lambda a, _: a + 1e-2 * np.eye(N))),
    "vectors expanded first": (
        from_columns(),
        pt.exp(-((x[:, None] - x) ** 2) / t**2) + d[:, None] ** 2 * pt.eye(N),
    ),
    "scalars expanded first": (kernel(), kernel(lambda a, b: pt.expand_dims(s, (0, 1)) ** 2 * a / s**2 + b)),
    "distances the other way": (
        from_columns(),
        pt.exp(-((x - x[:, None]) ** 2) / t**2) + (d**2)[:, None] * pt.eye(N),
    ),
}
OTHERS = {
    "another noise": (kernel(), kernel(lambda a, b: a + 2 * b)),
    "a term less": (kernel(), kernel(lambda a, b: a)),
    "another vector": (from_columns(), pt.exp(-((x[:, None] - x) ** 2) / t**2) + (y**2)[:, None] * pt.eye(N)),
    "not symmetric": (pt.outer(x, d) + kernel(), pt.outer(d, x) + kernel()),
    "half of something else": (kernel(), 0.5 * (kernel() + from_columns())),
}


def uses(K, C):
    return solve(K, y, assume_a="pos") @ y + slogdet(C)[1]


def problems(fn):
    return [d.problem for d in autotune.explain(fn).decisions]


@pytest.mark.parametrize("spelling", in_turn(SPELLINGS))
def test_equal_matrices_are_one_problem_with_one_factorisation(spelling):
    f = uses(*SPELLINGS[spelling])
    tuned = autotune.tune(f, ABOVE_KEEP)
    for outputs in ([f], [tuned, *pt.grad(tuned, [s, t, y], disconnected_inputs="ignore")]):
        fn = compile_with(INPUTS, outputs, ABOVE_KEEP)
        assert len(problems(fn)) == 1
        assert len(factorisations(fn.maker.fgraph)) == 1, named(factorisations(fn.maker.fgraph))
    plain = compile_raw(INPUTS, [f, *pt.grad(f, [s, t, y], disconnected_inputs="ignore")])
    for actual, expected in zip(fn(*POINT), plain(*POINT), strict=True):
        assert relative_error(actual, expected) < 1e-9


@pytest.mark.parametrize("pair", OTHERS)
def test_matrices_that_are_not_equal_stay_apart(pair):
    K, C = OTHERS[pair]
    f = solve(K + 9 * pt.eye(N), y) @ y + slogdet(C + 9 * pt.eye(N))[1]
    fn = compile_with(INPUTS, f, ABOVE_KEEP)
    assert len(problems(fn)) == 2
    assert relative_error(fn(*POINT), compile_raw(INPUTS, f)(*POINT)) < 1e-9


@pytest.mark.filterwarnings("ignore:.*rng:DeprecationWarning", "ignore:.*rng:FutureWarning")
def test_two_draws_are_two():
    draws = [pt.random.normal(size=(N, N), rng=pytensor.shared(np.random.default_rng(7))) for _ in range(2)]
    K, C = (draw @ draw.T + pt.eye(N) for draw in draws)
    fn = compile_with([], slogdet(K)[1] + 2 * slogdet(pt.eye(N) + C)[1], ABOVE_KEEP)
    assert len(problems(fn)) == 2


# -- the Cholesky factor, the solve and the determinant of one matrix -----------------------------


def joint(K):
    """Everything that is asked of a matrix, its factor as such included."""
    return (cholesky(K) @ y).sum() + solve(K, y, assume_a="pos") @ y + slogdet(K)[1] + inv(K).sum()


@pytest.mark.parametrize("door", ["mode", "tune"])
def test_factor_solve_and_determinant_share_one_factorisation_with_their_gradients(door):
    f = joint(kernel())
    value = autotune.tune(f, ABOVE_KEEP) if door == "tune" else f
    fn = compile_with(INPUTS, [value, *pt.grad(value, [s, t, y])], ABOVE_KEEP)
    assert len(problems(fn)) == 1
    assert len(factorisations(fn.maker.fgraph)) == 1, named(factorisations(fn.maker.fgraph))
    plain = compile_raw(INPUTS, [f, *pt.grad(f, [s, t, y])])
    for actual, expected in zip(fn(*POINT), plain(*POINT), strict=True):
        assert relative_error(actual, expected) < 1e-9


# -- in PyMC --------------------------------------------------------------------------------------


def model(name=None, latent=False):
    """A covariance in the likelihood of two variables, in a potential, and (``latent``) in a prior."""
    with pm.Model() as made:
        ell, scale = pm.HalfNormal("ell"), pm.HalfNormal("scale")
        K = scale**2 * pt.exp(-0.5 * (T[:, None] - T) ** 2 / (ell + 0.5) ** 2) + 0.1 * pt.eye(N)
        K.name = name
        pm.MvNormal("y", 0, cov=K, observed=POINT[1])
        pm.MvNormal("y2", 0, cov=K, observed=POINT[2])
        pm.Potential("jeffreys", -0.1 * slogdet(K)[1])
        if latent:
            f = cholesky(K) @ pm.Normal("z", shape=N)
            pm.Normal("w", f, 1, observed=POINT[2])
    return made


def compiled(made, policy=None):
    with autotune.enabled(policy):
        return made.logp_dlogp_function(ravel_inputs=True, mode=python_mode())


@pytest.mark.pymc
def test_all_uses_in_a_model_share_one_factorisation():
    made = model(latent=True)
    tuned = compiled(made, ABOVE_KEEP)
    assert len(problems(tuned)) == 1
    assert len(factorisations(tuned._pytensor_function.maker.fgraph)) == 1
    plain = made.logp_dlogp_function(ravel_inputs=True, mode=python_mode())
    point = RNG.uniform(-0.3, 0.3, 2 + N)
    for actual, expected in zip(tuned(point), plain(point), strict=True):
        assert relative_error(actual, expected) < 1e-9


@pytest.mark.pymc
def test_the_one_problem_is_found_by_each_of_its_uses():
    for name, match in [(None, {"name": "y2_logprob"}), ("K", {"name": "K", "rv": "jeff*"})]:
        fn = compiled(model(name), forced("cholesky_or_lu", match=match))
        [decision] = autotune.explain(fn).decisions
        assert decision.winner.reason == "forced by the policy"
    assert "K of y and y2 and jeffreys" in str(autotune.explain(fn))


@pytest.mark.pymc
def test_pins_that_name_uses_apart_keep_them_apart(monkeypatch, tmp_path):
    """As saved by a version that did not know that they are equal."""
    with monkeypatch.context() as patched:
        patched.setattr("autotune.rewrite.passes.equal_matrices", lambda *_: [])
        apart = autotune.explain(compiled(model("K"), ABOVE_KEEP))
    again = autotune.explain(compiled(model("K"), str(apart.save(tmp_path / "pins.yaml"))))
    assert len(apart.decisions) == 2
    assert not apart.diff(again)
