"""Structure in PyMC models that is folded while a log-density is made, before any matrix is solved with."""

import subprocess
import sys

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import chosen, in_turn, python_mode, relative_error

import autotune

pm = pytest.importorskip("pymc")
pytestmark = pytest.mark.pymc

N, P, Q = 120, 4, 6
rng = np.random.default_rng(3)
X, y = rng.normal(size=(N, P)), rng.normal(size=N)
g = rng.integers(0, Q, N)
Z = np.eye(Q)[g]


def coregion(tau, w):
    kernel = pm.gp.cov.Coregion(1, W=rng.normal(size=(Q, 2)), kappa=np.ones(Q))
    return tau**2 * kernel(g[:, None].astype(float))


def coregion_of_variables(tau, w):
    W = pm.Normal("W", shape=(Q, 2))
    return pm.gp.cov.Coregion(1, W=W, kappa=tau * pt.ones(Q))(g[:, None].astype(float))


FORMS = {
    "tau^2 dot(X, X')": lambda tau, w: tau**2 * pt.dot(X, X.T),
    "tau^2 (X @ X')": lambda tau, w: tau**2 * (pt.as_tensor(X) @ pt.as_tensor(X).T),
    "X diag(w) X'": lambda tau, w: X @ pt.diag(w) @ X.T,
    "Z (tau^2 I) Z'": lambda tau, w: Z @ (tau**2 * pt.eye(Q)) @ Z.T,
    "(Z exp) Z'": lambda tau, w: (Z * pt.exp(w[[0, 1, 2, 3, 0, 1]])) @ Z.T,
    "Linear": lambda tau, w: tau**2 * pm.gp.cov.Linear(P, c=0.0)(X),
    "Linear, active columns": lambda tau, w: tau**2 * pm.gp.cov.Linear(P, c=0.2, active_dims=[0, 2])(X),
    "Linear + Constant": lambda tau, w: (tau**2 * pm.gp.cov.Linear(P, c=0.0) + pm.gp.cov.Constant(tau))(X),
    "Constant": lambda tau, w: pm.gp.cov.Constant(tau**2)(X),
    "Coregion": coregion,
    "Coregion of variables": coregion_of_variables,
    "groups": lambda tau, w: tau**2 * pt.eq(g[:, None], g[None, :]),
    "exchangeable": lambda tau, w: tau,
    "folded": lambda tau, w: tau**2 * (Z @ Z.T),
    "data": lambda tau, w: tau**2 * (lambda D: D @ D.T)(pm.Data("X", X)),
}


def model_of(form):
    with pm.Model() as model:
        tau, s, w = pm.HalfNormal("tau"), pm.HalfNormal("s"), pm.HalfNormal("w", shape=P)
        pm.MvNormal("y", 0, cov=FORMS[form](tau, w) + (s**2 + 1e-3) * pt.eye(N), observed=y)
    return model


def joint(model):
    fn = model.logp_dlogp_function(ravel_inputs=True, mode=python_mode())
    fn.set_extra_values({})
    return fn


@pytest.mark.parametrize("form", in_turn(FORMS, 3))
def test_no_square_array_is_made(form):
    model = model_of(form)
    plain = joint(model)
    with autotune.enabled():
        fn = joint(model)
    fgraph = fn._pytensor_function.maker.fgraph
    assert chosen(fn) in (["woodbury"], ["spectrum"])
    assert not [n for n in fgraph.apply_nodes for o in n.outputs if getattr(o.type, "shape", ()) == (N, N)]
    assert all(np.size(getattr(v, "data", None)) < N * N for v in fgraph.variables)
    at = 0.3 * rng.normal(size=sum(v.size for v in model.initial_point().values()))
    for mine, right in zip(fn(at), plain(at), strict=True):
        assert relative_error(mine, right) < 1e-8


def test_a_model_built_while_enabled_is_compiled_as_ever_afterwards():
    with autotune.enabled():
        logp = model_of("Linear").logp()
    plain = model_of("Linear")
    point = plain.initial_point()
    fn = plain.compile_fn(plain.logp(), mode=python_mode())
    names = {v.name: v for v in pm.pytensorf.inputvars([logp])}
    other = pm.pytensorf.compile([names[v.name] for v in plain.value_vars], logp, mode=python_mode())
    assert relative_error(other(*[point[v.name] for v in plain.value_vars]), fn(point)) < 1e-12


def test_a_release_of_pymc_that_renames_what_is_guarded_is_told(monkeypatch):
    from pymc.logprob.rewriting import logprob_rewrites_db

    monkeypatch.delitem(logprob_rewrites_db.__position__, "pre-canonicalize")
    with pytest.warns(UserWarning, match="PyMC has no pymc.logprob.rewriting.logprob_rewrites_db with"):
        autotune.enable()
    with pytest.warns(UserWarning, match="please report this"):
        autotune.disable()


def test_pymc_is_as_it_was_after_disable():
    from pymc.logprob.rewriting import logprob_rewrites_basic_query, logprob_rewrites_db

    def names():
        return [rewriter.name for rewriter in logprob_rewrites_db.query(logprob_rewrites_basic_query).data]

    before = names()
    with autotune.enabled():
        inside = names()
    assert names() == before
    assert inside[inside.index("pre-canonicalize") - 1] == "autotune_protect_logp"
    assert [name for name in inside if name != "autotune_protect_logp"] == before


IMPORTED_LATER = """
import sys
sys.path.insert(0, {folder!r})
import autotune
autotune.enable()
assert "pymc" not in sys.modules
import test_survives_pymc as tests
assert tests.chosen(tests.joint(tests.model_of("Linear"))) == ["spectrum"]
"""


@pytest.mark.slow
def test_pymc_may_be_imported_after_enable():
    folder = str(__import__("pathlib").Path(__file__).parent)
    subprocess.run([sys.executable, "-W", "ignore", "-c", IMPORTED_LATER.format(folder=folder)], check=True)
