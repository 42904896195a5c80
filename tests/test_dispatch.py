"""Unknown sizes: where two candidates cross, the function looks at its sizes and runs one of the two."""

import logging
import pickle
from functools import partialmethod

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_plain, op_names, relative_error
from pytensor.compile.mode import Mode, get_mode
from pytensor.conditional.op import IfElse, LazyIfElse, ifelse
from pytensor.graph.fg import FunctionGraph
from pytensor.link.vm import VMLinker
from pytensor.tensor.linalg import inv, slogdet, solve

import autotune
import autotune.choose.crossing
import autotune.rewrite.dispatch
import autotune.rewrite.passes
from autotune.rewrite.passes import AutotunePass

U, d, b, A, B = pt.matrix("U"), pt.vector("d"), pt.vector("b"), pt.matrix("A"), pt.matrix("B")
K = U @ U.T + pt.diag(d)
K.name = "K"
LOW_RANK = [solve(K, b, assume_a="pos"), slogdet(K)[1]]
BELOW, ABOVE = (30, 3), (5, 40)  # (n, rank) on both sides of any crossover
RNG = np.random.default_rng(0)


def lazy_mode() -> Mode:
    """A linker that evaluates one branch only, and calls Python for every Op."""
    return Mode(linker=VMLinker(use_cloop=False, c_thunks=False), optimizer="fast_run").excluding(
        "inplace", "fusion"
    )


def compiled(inputs, outputs, policy=None, base=None):
    return pytensor.function(inputs, outputs, mode=autotune.mode(policy, base=base or lazy_mode()))


def values(n, rank):
    return RNG.normal(size=(n, rank)), RNG.uniform(1, 2, n), RNG.normal(size=n)


def expected(U, d, b):
    K = U @ U.T + np.diag(d)
    return np.linalg.solve(K, b), np.linalg.slogdet(K)[1]


def conditionals(fn) -> list:
    return [node for node in fn.maker.fgraph.apply_nodes if isinstance(node.op, IfElse | LazyIfElse)]


def decision_of(fn):
    [decision] = autotune.explain(fn).decisions
    return decision


@pytest.mark.parametrize(
    ("base", "asked"),
    [
        (lazy_mode(), 2),
        pytest.param(get_mode("NUMBA"), 1, marks=pytest.mark.slow),
        pytest.param(get_mode("NUMBA"), 2, marks=pytest.mark.slow),
    ],
    ids=["vm", "numba", "numba_jointly"],
)
def test_both_sides_of_the_crossover_are_right(base, asked):
    fn = compiled([U, d, b], LOW_RANK[:asked], base=base)
    assert len(conditionals(fn)) == 1
    decision = decision_of(fn)
    assert decision.chosen == decision.crossover.name
    assert decision.crossover.below == "woodbury"
    for n, rank in (BELOW, ABOVE, (5, 5), (1, 1), (1, 0), (0, 0)):
        arguments = values(n, rank)
        for actual, wanted in zip(fn(*arguments), expected(*arguments)[:asked], strict=True):
            assert relative_error(actual, wanted) < 1e-10


def test_only_the_branch_taken_is_run(monkeypatch):
    ran = []

    def counted(op, *args, perform):
        ran.append(type(op).__name__)
        return perform(op, *args)

    for node in compiled([U, d, b], LOW_RANK).maker.fgraph.apply_nodes:
        kind = type(node.op)
        if kind.__name__ in ("LowRankFactor", "Cholesky", "SharedCholesky", "CholeskyOrLU"):
            monkeypatch.setattr(kind, "perform", partialmethod(counted, perform=kind.perform))
    fn = compiled([U, d, b], LOW_RANK)
    fn(*values(*BELOW))
    assert set(ran) == {"LowRankFactor"}  # with a look at definiteness for the solve, without for the other
    ran.clear()
    fn(*values(*ABOVE))
    assert ran
    assert "LowRankFactor" not in ran


def test_the_plan_states_the_crossover_and_pins_repeat_it_without_a_profile(tmp_path, monkeypatch):
    fn = compiled([U, d, b], LOW_RANK)
    plan = autotune.explain(fn)
    assert f"{decision_of(fn).crossover}"[:30] in str(plan)
    assert plan.to_json()
    monkeypatch.setattr("cost_models.find_profile", None)
    again = compiled([U, d, b], LOW_RANK, plan.save(tmp_path / "pins.yaml"))
    monkeypatch.undo()
    assert decision_of(again).crossover == decision_of(fn).crossover
    assert sorted(op_names(again)) == sorted(op_names(fn))


@pytest.mark.parametrize("tuned", [False, True])
def test_pins_of_a_crossover_wait_for_the_sizes_before_autodiff(tmp_path, tuned):
    def compiled_by(policy):
        loss = sum(out.sum() for out in LOW_RANK)
        loss = autotune.tune(loss, policy) if tuned else loss
        return compiled([U, d, b], [loss, *pt.grad(loss, [U, d])], policy)

    fn = compiled_by(None)
    again = compiled_by(autotune.explain(fn).save(tmp_path / "pins.yaml"))
    assert decision_of(again).crossover == decision_of(fn).crossover
    assert sorted(op_names(again)) == sorted(op_names(fn))


@pytest.mark.parametrize(
    "policy",
    [
        {"runtime_dispatch": False},
        {"rules": [{"force": "woodbury"}]},
        {"rules": [{"forbid": "woodbury"}]},
        {"sizes": {"U[0]": 1000, "U[1]": 10, "d[0]": 1000}},
    ],
    ids=["switched off", "forced", "forbidden", "hints"],
)
def test_no_branches_where_sizes_do_not_decide(policy):
    fn = compiled([U, d, b], LOW_RANK, policy)
    assert conditionals(fn) == []
    assert decision_of(fn).crossover is None


def test_a_linker_that_evaluates_both_branches_gets_none():
    assert conditionals(compiled([U, d, b], LOW_RANK, base=Mode(linker="py", optimizer="fast_run"))) == []


def test_gradients_through_tune_look_at_sizes_once():
    loss = solve(K, b, assume_a="pos") @ b + slogdet(K)[1]
    grads = pt.grad(autotune.tune(loss), [U, d, b])
    fn, plain = compiled([U, d, b], grads), compile_plain([U, d, b], pt.grad(loss, [U, d, b]))
    assert len(conditionals(fn)) == 1
    for sizes in (BELOW, ABOVE):
        arguments = values(*sizes)
        for actual, wanted in zip(fn(*arguments), plain(*arguments), strict=True):
            assert relative_error(actual, wanted) < 1e-9


def test_results_that_need_each_other_stay_in_one_branch():
    x = solve(K, b, assume_a="pos")
    outputs = [x, solve(K, pt.sqr(x), assume_a="pos")]
    fn = compiled([U, d, b], outputs)
    [node] = conditionals(fn)
    assert len(node.outputs) == 2
    for sizes in (BELOW, ABOVE):
        arguments = values(*sizes)
        first = expected(*arguments)[0]
        second = expected(*arguments[:2], first**2)[0]
        for actual, wanted in zip(fn(*arguments), (first, second), strict=True):
            assert relative_error(actual, wanted) < 1e-10


def test_matrices_that_need_each_others_results_are_not_put_in_branches():
    L = 2 * U @ U.T + pt.diag(d)
    x, y = solve(K, b, assume_a="pos"), solve(L, b, assume_a="pos")
    outputs = [solve(L, x, assume_a="pos"), solve(K, y, assume_a="pos")]
    fn, plain = compiled([U, d, b], outputs), compile_plain([U, d, b], outputs)
    assert conditionals(fn) == []
    arguments = values(*BELOW)
    for actual, wanted in zip(fn(*arguments), plain(*arguments), strict=True):
        assert relative_error(actual, wanted) < 1e-10


@pytest.mark.parametrize(("n", "columns"), [(20, 1), (4, 3000), (0, 2), (1, 1)])
def test_an_inverse_times_any_number_of_columns_is_right(n, columns):
    fn = compiled([A, B], inv(A) @ B)
    M, rhs = RNG.normal(size=(n, n)), RNG.normal(size=(n, columns))
    assert relative_error(fn(M, rhs), np.linalg.solve(M, rhs)) < 1e-8


def rewritten(fgraph):
    """The names of its Ops after the pass, which sees PyTensor's mode on the graph while it rewrites it."""
    fgraph._compile_mode = lazy_mode()
    AutotunePass().rewrite(fgraph)
    del fgraph._compile_mode
    return [str(node.op) for node in fgraph.toposort()]


def test_what_the_pass_wrote_it_leaves_alone():
    fgraph = FunctionGraph([U, d, b], list(LOW_RANK), clone=True)
    once = rewritten(fgraph)
    assert once.count("if{autotune}") == 1
    assert rewritten(fgraph.clone()) == once


@pytest.mark.parametrize(
    "base", [lazy_mode(), pytest.param(get_mode("NUMBA"), marks=pytest.mark.slow)], ids=["vm", "numba"]
)
def test_what_an_ifelse_or_a_scan_holds_is_right(base):
    condition = pt.scalar("condition")
    either = ifelse(condition, LOW_RANK[0], 2 * b)
    fn = compiled([U, d, b, condition], either, base=base)
    steps = pytensor.scan(
        lambda y: solve(K, y, assume_a="pos"), outputs_info=[b], n_steps=2, return_updates=False
    )
    scanned = compiled([U, d, b], steps)
    for sizes in (BELOW, ABOVE):
        arguments = values(*sizes)
        x, _ = expected(*arguments)
        assert relative_error(fn(*arguments, 1.0), x) < 1e-10
        assert relative_error(fn(*arguments, 0.0), 2 * arguments[2]) < 1e-10
        assert relative_error(scanned(*arguments)[0], x) < 1e-10


def test_no_more_than_a_few_problems_of_a_function_get_branches_unless_asked():
    matrices = [pt.matrix(f"U{i}") for i in range(6)]
    outputs = [solve(V @ V.T + pt.diag(d), b, assume_a="pos") for V in matrices]
    assert len(conditionals(compiled([*matrices, d, b], outputs))) == 4
    assert len(conditionals(compiled([*matrices, d, b], outputs, {"runtime_dispatch": True}))) == 6


def test_compiled_functions_travel_through_pickle():
    V = pt.matrix("V")  # PyTensor cannot pickle an AllocDiag that was differentiated, as that of K is
    outputs = [solve(V @ V.T + pt.diag(d), b, assume_a="pos")]
    fn = pickle.loads(pickle.dumps(compiled([V, d, b], outputs)))
    for sizes in (BELOW, ABOVE):
        arguments = values(*sizes)
        assert relative_error(fn(*arguments)[0], expected(*arguments)[0]) < 1e-10


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (autotune.rewrite.passes, "branches"),
        (autotune.choose.crossing, "_along"),
        (autotune.rewrite.dispatch, "separable"),
    ],
)
def test_an_error_leaves_the_plain_graph(module, name, monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise RuntimeError("on purpose")

    monkeypatch.setattr(module, name, broken)
    with caplog.at_level(logging.WARNING, logger="autotune"):
        fn = compiled([U, d, b], LOW_RANK)
    assert op_names(fn) == op_names(compile_plain([U, d, b], LOW_RANK, lazy_mode()))
    assert "on purpose" in caplog.text
