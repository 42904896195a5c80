"""Both doors, ``tune`` and the switch: what is in force where, and that nothing else changes."""

import pickle
import subprocess
import sys

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import FORCE_WOODBURY, compile_raw, largest_array, op_names, python_mode, relative_error
from pytensor.compile.mode import optdb
from pytensor.graph.rewriting.db import RewriteDatabaseQuery
from pytensor.tensor.linalg import inv, slogdet, solve

import autotune
from autotune.algebra.requests import RequestOp

N, K = 50, 2
U, d, b = pt.matrix("U", shape=(N, K)), pt.vector("d", shape=(N,)), pt.vector("b", shape=(N,))
matrix = U @ U.T + pt.diag(d)
rng = np.random.default_rng(0)
VALUES = rng.normal(size=(N, K)), rng.uniform(1, 2, N), rng.normal(size=N)
DENSE = VALUES[0] @ VALUES[0].T + np.diag(VALUES[1])
LOSS = -0.5 * b @ inv(matrix) @ b - 0.5 * slogdet(matrix)[1]


@pytest.fixture(autouse=True)
def _switched_off_afterwards():
    yield
    autotune.disable()


def queries():
    """What PyTensor's databases answer to the queries that modes and PyMC make."""

    def names(rewriter):
        members = getattr(rewriter, "data", None) or list(getattr(rewriter, "global_rewriters", ()))
        return [(member.name, names(member)) for member in members]

    tags = ["fast_run"], ["fast_compile"], ["canonicalize", "stabilize"], ["stabilize"], ["fast_run", "jax"]
    return [names(optdb.query(RewriteDatabaseQuery(include=include))) for include in tags]


def test_queries_after_disable_are_those_before_enable():
    before = queries()
    autotune.enable()
    assert queries() != before
    autotune.enable({"margin": 0.2})
    autotune.disable()
    assert queries() == before
    with autotune.enabled(), autotune.enabled({"margin": 0.3}):
        pass
    assert queries() == before


def test_import_registers_nothing():
    code = (
        "import pytensor; from pytensor.compile.mode import optdb; before = set(optdb._names);"
        "import sys, autotune; assert set(optdb._names) == before;"
        "assert not {'sklearn', 'autotune.rewrite.doors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_enable_reaches_a_default_compile_and_disable_ends_it():
    plain = op_names(pytensor.function([U, d, b], solve(matrix, b), mode=python_mode()))
    autotune.enable(FORCE_WOODBURY)
    fn = pytensor.function([U, d, b], solve(matrix, b), mode=python_mode())
    assert any("LowRank" in name for name in op_names(fn))
    assert relative_error(fn(*VALUES), np.linalg.solve(DENSE, VALUES[2])) < 1e-12
    autotune.disable()
    assert op_names(pytensor.function([U, d, b], solve(matrix, b), mode=python_mode())) == plain


def test_policy_of_the_mode_wins_over_enable():
    autotune.enable({"rules": [{"force": "cholesky"}]})
    fn = pytensor.function(
        [U, d, b], solve(matrix, b, assume_a="pos"), mode=autotune.mode(FORCE_WOODBURY, python_mode())
    )
    assert [decision.chosen for decision in autotune.explain(fn).decisions] == ["woodbury"]


def test_sessions_collect_the_plans_made_inside():
    with autotune.enabled(FORCE_WOODBURY) as session:
        pytensor.function([U, d, b], solve(matrix, b), mode=python_mode())
        pytensor.function([U, d], slogdet(matrix)[1], mode=python_mode())
        pytensor.function([b], b.sum(), mode=python_mode())
    pytensor.function([U, d, b], solve(matrix, b), mode=python_mode())
    assert [[d.chosen for d in plan.decisions] for plan in session.plans] == [["woodbury"], ["woodbury"]]


def test_nested_policies_overlay_and_are_taken_back():
    keep = {"rules": [{"force": "keep"}]}
    with autotune.enabled(FORCE_WOODBURY):
        with autotune.enabled(keep) as inner:
            pytensor.function([U, d, b], solve(matrix, b), mode=python_mode())
        with autotune.enabled() as outer:
            pytensor.function([U, d, b], solve(matrix, b), mode=python_mode())
    assert inner.plans[0].decisions[0].chosen == "keep"
    assert outer.plans[0].decisions[0].chosen == "woodbury"


def test_tune_before_grad_gives_the_thin_joint_graph():
    tuned = autotune.tune(LOSS, FORCE_WOODBURY)
    outputs = [tuned, *pt.grad(tuned, [U, d, b])]
    fn = pytensor.function([U, d, b], outputs, mode=autotune.mode(base=python_mode()))
    assert largest_array(fn) < N * N
    assert sum("LowRankFactor" in name for name in op_names(fn)) == 1
    expected = compile_raw([U, d, b], [LOSS, *pt.grad(LOSS, [U, d, b])])(*VALUES)
    for a, e in zip(fn(*VALUES), expected, strict=True):
        assert relative_error(a, e) < 1e-10
    [decision] = autotune.explain(fn).decisions
    assert decision.before_autodiff
    assert decision.chosen == "woodbury"


def test_tune_keeps_inputs_names_and_lists():
    LOSS.name = "loss"
    first, second = autotune.tune([LOSS, U.sum()], FORCE_WOODBURY)
    assert first.name == "loss"
    assert isinstance(autotune.tune(LOSS), pt.TensorVariable)
    fn = pytensor.function([U, d, b], [first, second], mode=python_mode())
    assert relative_error(fn(*VALUES)[1], VALUES[0].sum()) < 1e-12


def test_tune_reads_assumptions_and_leaves_them_in_place():
    from pytensor.assumptions import POSITIVE_DEFINITE, assume

    M = pt.matrix("M", shape=(300, 300))
    tuned = autotune.tune(slogdet(assume(M, positive_definite=True))[1])
    [node] = [n for n in pytensor.graph.traversal.applys_between([M], [tuned]) if isinstance(n.op, RequestOp)]
    assert node.op.spec.positive_definite
    kept = autotune.tune(slogdet(assume(M, positive_definite=True))[1], {"rules": [{"force": "keep"}]})
    matrices = [v for n in pytensor.graph.traversal.applys_between([M], [kept]) for v in n.inputs]
    assert any(POSITIVE_DEFINITE.holds(v) for v in matrices)


def test_functions_travel_through_pickle_with_their_plan():
    fresh = U @ U.T + pt.diag(
        d
    )  # a matrix that was differentiated cannot be pickled, by PyTensor's AllocDiag
    fn = pytensor.function([U, d, b], solve(fresh, b), mode=autotune.mode(FORCE_WOODBURY, python_mode()))
    again = pickle.loads(pickle.dumps(fn))
    assert relative_error(again(*VALUES), fn(*VALUES)) == 0
    assert autotune.explain(again) == autotune.explain(fn)


def test_explain_says_what_it_was_not_given():
    plain = pytensor.function([U], U.sum(), mode=python_mode())
    with pytest.raises(ValueError, match="compiled without autotune"):
        autotune.explain(plain)
    with pytest.raises(TypeError, match="holds no compiled PyTensor function"):
        autotune.explain(3)


def test_fast_compile_lowers_requests_and_reads_nothing():
    with autotune.enabled(FORCE_WOODBURY):
        tuned = autotune.tune(LOSS)
        fn = pytensor.function([U, d, b], [tuned, LOSS], mode="FAST_COMPILE")
    assert not any(isinstance(node.op, RequestOp) for node in fn.maker.fgraph.apply_nodes)
    first, second = fn(*VALUES)
    assert relative_error(first, second) < 1e-12


def test_a_linker_that_cannot_run_our_ops_gets_plain_ones():
    """The JAX mode's rewrites, without JAX: requests become PyTensor's own Ops."""
    from pytensor.compile.mode import get_mode
    from pytensor.graph.fg import FunctionGraph

    with autotune.enabled(FORCE_WOODBURY):
        tuned = autotune.tune(LOSS)
    with autotune.enabled():
        fgraph = FunctionGraph([U, d, b], [tuned, *pt.grad(tuned, [U, d])], clone=True)
        get_mode("JAX").optimizer.rewrite(fgraph)
    ours = [
        n.op
        for n in fgraph.apply_nodes
        if type(getattr(n.op, "core_op", n.op)).__module__.startswith("autotune")
    ]
    assert ours == []
