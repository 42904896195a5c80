"""`autotune.explain(model)`: what PyMC compiles, by the model's own names, and hints that are true."""

import json

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import compile_with, forced, in_turn, python_mode, relative_error
from pytensor.assumptions import assume
from pytensor.tensor.linalg import block_diag, cholesky, kron, slogdet, solve, solve_triangular
from typer.testing import CliRunner

import autotune
from autotune.cli import app
from autotune.report.model import is_model

pm = pytest.importorskip("pymc")
pytestmark = pytest.mark.pymc
N, P = 60, 12
RNG = np.random.default_rng(6)
T = np.arange(float(N))
Y, ROWS = RNG.normal(size=N), RNG.normal(size=(3, N))
A = np.exp(-abs(T[:, None] - T) / 9)
B = np.exp(-((T[:P, None] - T[:P]) ** 2) / 8) + 0.1 * np.eye(P)


def scales():
    return pm.HalfNormal("s"), pm.HalfNormal("t")


def two_uses():
    with pm.Model() as model:
        s, t = scales()
        K = s**2 * pt.exp(-0.5 * (T[:, None] - T) ** 2 / (t + 0.5) ** 2) + 0.1 * pt.eye(N)
        K.name = "K"
        pm.MvNormal("y", 0, cov=K, observed=Y)
        pm.Potential("jeffreys", -0.1 * slogdet(K)[1])
    return model


def factor_analysis():
    with pm.Model(coords={"item": range(N), "factor": range(2)}) as model:
        W = pm.Normal("W", dims=("item", "factor"))
        psi = pm.HalfNormal("psi", dims="item")
        pm.MvNormal("y", 0, cov=W @ W.T + pt.diag(psi), observed=Y)
    return model


def regression():
    with pm.Model() as model:
        pm.Normal("y", pm.Normal("b", shape=3) @ RNG.normal(size=(3, N)), 1, observed=Y)
    return model


def counts():
    with pm.Model() as model:
        pm.Normal("y", pm.Poisson("k", 3), 1, observed=2.0)
    return model


# -- what is told ---------------------------------------------------------------------------------


def test_the_plan_is_that_of_what_pymc_compiles_by_the_models_names():
    plan = autotune.explain(two_uses())
    with autotune.enabled():
        compiled = autotune.explain(two_uses().logp_dlogp_function(ravel_inputs=True))
    assert plan.decisions == compiled.decisions
    assert plan.price == compiled.price
    assert "[0] K of y and jeffreys: " in str(plan)
    assert plan.helps
    assert plan.plain.seconds > plan.seconds
    assert "autotune helps this model" in str(plan)
    data = json.loads(plan.to_json())
    assert data["plain"]["seconds"] == plan.plain.seconds
    assert data["advice"] == []


@pytest.mark.parametrize("model", [regression, counts])
def test_a_model_that_gains_nothing_is_told_so(model):
    plan = autotune.explain(model())
    assert plan.decisions == plan.advice == ()
    assert not plan.helps
    assert "autotune does not help this model" in str(plan)


def test_the_policy_given_is_in_force_for_this_alone():
    model = covariance(smooth)
    assert [d.chosen for d in autotune.explain(model(), policy=forced("keep")).decisions] == ["keep"]
    with pytest.raises(autotune.PolicyError):
        autotune.explain(model(), policy=forced("woodbury"))
    X = pt.matrix("X")
    with pytest.raises(TypeError, match="Only models take one"):
        autotune.explain(compile_with([X], X + 1), policy=forced("keep"))


def test_what_is_no_model_is_none():
    assert is_model(two_uses())
    assert not any(map(is_model, (pm.Model, two_uses, None)))


# -- hints ----------------------------------------------------------------------------------------


def covariance(make, **kwargs):
    """A model of ``y`` by ``make(s, t)``, a covariance; also with other ``kwargs`` of the variable."""

    def model():
        with pm.Model() as made:
            pm.MvNormal("y", **{"mu": np.zeros(N), "observed": Y, "cov": make(*scales())} | kwargs)
        return made

    return model


def by_tau(rows, matrix):
    def model():
        with pm.Model() as made:
            pm.MvNormal("y", 0, tau=matrix(*scales()), observed=rows)
        return made

    return model


def smooth(s, t):
    return s * pt.exp(-((T[:, None] - T) ** 2) / t) + 0.1 * pt.eye(N)


def product(first):
    """A Kronecker product: asked for without a Cholesky factor, and with one."""

    def model():
        with pm.Model() as made:
            s, t = scales()
            K = kron(first(), s * pt.exp(-((T[:P, None] - T[:P]) ** 2) / t) + 0.1 * pt.eye(P))
            y = np.resize(Y, P * P)
            pm.Potential("p", -0.5 * (slogdet(K)[1] + y @ solve(K, y)))
        return made

    return model


def blocks(first):
    def model():
        with pm.Model() as made:
            s, t = scales()
            n = 70
            x = np.arange(float(n))
            block = s * pt.exp(-((x[:, None] - x) ** 2) / t) + 0.1 * pt.eye(n)
            L = cholesky(block_diag(first(np.exp(-abs(x[:, None] - x) / 9)), block))
            whitened = solve_triangular(L, np.resize(Y, 2 * n), lower=True)
            pm.Potential("p", -pt.log(pt.diagonal(L)).sum() - 0.5 * (whitened**2).sum())
        return made

    return model


def tagged_data(value):
    return assume(pm.Data("B", value, shape=value.shape), positive_definite=True)


HINTS = {
    "shape of data": (
        product(lambda: pm.Data("B", B)),
        product(lambda: pm.Data("B", B, shape=B.shape)),
        "nothing fixes the shape of B",
        f'pm.Data("B", ..., shape={B.shape})',
    ),
    "single precision": (
        product(lambda: B.astype("float32")),
        product(lambda: B.astype("float32").astype("float64")),
        f"an array of shape {B.shape} is of float32",
        'X.astype("float64")',
    ),
    "tag of data": (
        blocks(lambda value: pm.Data("B", value, shape=value.shape)),
        blocks(tagged_data),
        "nothing proves B positive definite",
        'B = pytensor.assumptions.assume(pm.Data("B", ..., shape=(70, 70)), positive_definite=True)',
    ),
}


@pytest.mark.parametrize("case", in_turn(HINTS, 10))
def test_a_hint_is_specific_and_keeps_its_promise(case):
    before, after, found, instead = HINTS[case]
    plan = autotune.explain(before())
    hint = next(hint for hint in plan.advice if found in hint.found)
    assert instead in hint.instead
    assert f"hint: {found}"[:30] in str(plan)
    with autotune.enabled():
        followed = autotune.explain(after().logp_dlogp_function(ravel_inputs=True)).seconds
    assert followed == pytest.approx(hint.seconds, rel=0.3)
    assert followed < 0.8 * plan.seconds


@pytest.mark.parametrize("case", in_turn(HINTS, 6))
def test_what_a_hint_says_to_write_is_the_same_model(case):
    """Up to a constant: differences of the log-probability are the same."""
    before, after, *_ = HINTS[case]
    models = before(), after()
    logps = [model.compile_logp(mode=python_mode()) for model in models]
    values = []
    for s, t in ((0.1, 0.2), (-0.4, 0.3), (0.3, -0.5)):
        point = {"s_log__": np.array(s), "t_log__": np.array(t)}
        pairs = zip(logps, models, strict=True)
        values.append([fn({v.name: point[v.name] for v in m.value_vars}) for fn, m in pairs])
    values = np.array(values)
    differences = values[1:] - values[0]
    assert relative_error(differences[:, 1], differences[:, 0]) < 1e-5


NOTHING_TO_GAIN = {
    "two constants": covariance(lambda s, t: s * A + t * A**2),
    "a scaled constant": covariance(lambda s, t: s * A),
    "factor analysis": factor_analysis,
    "two uses": two_uses,
    "precision of one row": by_tau(Y, smooth),
    "precision of rows": by_tau(ROWS, smooth),
    "data that need no shape": covariance(lambda s, t: (X := pm.Data("X", ROWS.T)) @ X.T * s + t * pt.eye(N)),
    "a constant": covariance(lambda s, t: A),
}


@pytest.mark.parametrize("case", in_turn(NOTHING_TO_GAIN, 5))
def test_there_is_no_hint_where_nothing_is_gained(case):
    assert autotune.explain(NOTHING_TO_GAIN[case]()).advice == ()


# -- the command line -----------------------------------------------------------------------------

SCRIPT = """
import numpy as np
import pymc as pm

A = np.exp(-abs(np.subtract.outer(range(50), range(50))) / 9)
with pm.Model() as model:
    pm.MvNormal("y", np.zeros(50), cov=pm.HalfNormal("s") * A, observed=np.ones(50))
"""


def test_models_of_a_script_are_explained_on_demand(tmp_path):
    script = tmp_path / "model.py"
    script.write_text(SCRIPT)
    shown = CliRunner().invoke(app, ["explain", "--models", str(script)])
    assert shown.exit_code == 0, shown.output
    assert "model model" in shown.stdout
    assert "autotune helps this model" in shown.stdout
    script.write_text("x = 1")
    empty = CliRunner().invoke(app, ["explain", "--models", "--json", str(script)])
    assert json.loads(empty.stdout) == {"functions": [], "pins": None, "models": {}}
