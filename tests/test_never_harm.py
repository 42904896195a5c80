"""Whatever goes wrong inside the pass, the function is PyTensor's own, and one line says so."""

import logging

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import FORCE_WOODBURY, compile_plain, compile_with, op_names, python_mode
from pytensor.tensor.linalg import slogdet, solve

import autotune
import autotune.choose
import autotune.choose.candidates
import autotune.read
import autotune.rewrite.build
import autotune.rewrite.guards
import autotune.rewrite.passes
import cost_models

N = 60
U, d, b, s = (
    pt.matrix("U", shape=(N, 2)),
    pt.vector("d", shape=(N,)),
    pt.vector("b", shape=(N,)),
    pt.scalar("s"),
)
M = pt.matrix("M", shape=(N, N))
X = pt.constant(np.random.default_rng(1).normal(size=(N, 3)))
MATRICES = {
    "diag": U @ U.T + pt.diag(d),
    "identity": U @ U.T + s**2 * pt.eye(N),
    "constant": X @ X.T + pt.diag(d),
}
PLACES = [
    (autotune.rewrite.passes, "has_roots"),
    (autotune.rewrite.passes, "guard_structure"),
    (autotune.rewrite.passes, "read"),
    (autotune.rewrite.passes, "problem_of"),
    (autotune.rewrite.passes, "decide"),
    (autotune.choose.candidates, "seconds"),
    (autotune.rewrite.passes, "lower"),
    (autotune.rewrite.passes, "copy_stack_trace"),
    (cost_models, "find_profile"),
]


@pytest.mark.parametrize("form", MATRICES)
@pytest.mark.parametrize(("module", "name"), PLACES, ids=[name for _, name in PLACES])
def test_exception_leaves_plain_graph_and_one_line(module, name, form, monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise RuntimeError("on purpose")

    outputs = [solve(MATRICES[form], b), *slogdet(MATRICES[form])]
    plain = compile_plain([U, d, b, s], outputs)
    monkeypatch.setattr(module, name, broken)
    with caplog.at_level(logging.WARNING, logger="autotune"):
        mode = autotune.mode(FORCE_WOODBURY, python_mode())
        fn = pytensor.function([U, d, b, s], outputs, mode=mode, on_unused_input="ignore")
    assert op_names(fn) == op_names(plain)
    [record] = [r for r in caplog.records if r.name == "autotune" and r.levelno >= logging.WARNING]
    assert "RuntimeError: on purpose" in record.getMessage()
    assert "on purpose" in str(autotune.explain(fn))


@pytest.mark.parametrize("form", MATRICES)
def test_kept_graph_is_exactly_pytensors(form):
    outputs = [solve(MATRICES[form], b), *slogdet(MATRICES[form])]
    mode = autotune.mode({"rules": [{"force": "keep"}]}, python_mode())
    fn = pytensor.function([U, d, b, s], outputs, mode=mode, on_unused_input="ignore")
    assert op_names(fn) == op_names(compile_plain([U, d, b, s], outputs))


def compile_through(door, out, policy):
    if door == "mode":
        return compile_with([M], out, policy)
    if door == "tune":
        return autotune.tune(out, policy)
    with autotune.enabled(policy):
        return pytensor.function([M], out, mode=python_mode())


@pytest.mark.parametrize("door", ["mode", "enabled", "tune"])
def test_a_policy_that_cannot_be_obeyed_is_an_error(door):
    policy = {"rules": [{"match": {"name": "M"}, "force": "woodbury"}]}
    with pytest.raises(autotune.PolicyError, match=r"rules\[0\].*'woodbury'.*not diagonal plus low rank"):
        compile_through(door, slogdet(M)[1], policy)


def test_not_positive_definite_under_a_false_tag_is_nan_as_in_pytensor():
    from pytensor.assumptions import assume

    P = assume(M, positive_definite=True)
    mode = autotune.mode({"rules": [{"force": "cholesky"}]}, python_mode())
    outputs = [solve(P, b), *slogdet(P), pt.linalg.inv(P)]
    for out in pytensor.function([M, b], outputs, mode=mode)(-np.eye(N), np.ones(N)):
        assert np.isnan(out).all()


@pytest.mark.parametrize("strategy", ["cholesky", "cholesky_or_lu", "lu", "woodbury", "cg"])
def test_nan_in_nan_out(strategy):
    from pytensor.assumptions import assume

    P = assume(MATRICES["diag"], positive_definite=True)
    mode = autotune.mode({"rules": [{"force": strategy}]}, python_mode())
    fn = pytensor.function([U, d, b], solve(P, b), mode=mode)
    U_value = np.full((N, 2), np.nan)
    with np.errstate(invalid="ignore"):
        assert np.isnan(fn(U_value, np.ones(N), np.ones(N))).all()
