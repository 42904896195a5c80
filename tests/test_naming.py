"""What a matrix is called in a rule: stable names, and each rule finds what it names and nothing else."""

import inspect
import subprocess
import sys

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_with, forced, in_turn, op_names, python_mode
from pytensor.assumptions import assume
from pytensor.tensor.linalg import inv, slogdet, solve

import autotune
from autotune.plan.table import told_apart
from autotune.policy import Match
from autotune.policy.conflicts import covers
from autotune.problem import Problem, Request, Traits, dense

N = 40


@pytest.fixture(autouse=True)
def _traces():
    """PyTensor's default, which tests do without elsewhere."""
    with pytensor.config.change_flags(traceback__limit=8):
        yield


def problems(inputs, outputs, policy=None):
    return [d.problem for d in autotune.explain(compile_with(inputs, outputs, policy)).decisions]


def low_rank(n=N, k=3, name="U"):
    U, d = pt.matrix(name, shape=(n, k)), pt.vector("d", shape=(n,))
    return [U, d], U @ U.T + pt.diag(d)


def print_of(inputs, outputs):
    [problem] = problems(inputs, outputs)
    return problem.fingerprint


# -- fingerprints ---------------------------------------------------------------------------------


def test_a_fingerprint_survives_recompiling_and_other_sizes():
    prints = set()
    for n, k in ((40, 3), (40, 3), (55, 7)):
        inputs, K = low_rank(n, k)
        prints.add(print_of(inputs, slogdet(K)[1]))
    assert len(prints) == 1


def test_a_fingerprint_survives_other_values_and_the_order_of_a_sum():
    U = pt.matrix("U", shape=(N, 3))
    values = [np.full(N, 2.0), np.arange(1.0, N + 1)]
    first = [print_of([U], inv(U @ U.T + pt.diag(pt.constant(value)))) for value in values]
    swapped = print_of([U], inv(pt.diag(pt.constant(values[0])) + U @ U.T))
    assert len({*first, swapped}) == 1


CODE = """
import pytensor, pytensor.tensor as pt, autotune
from pytensor.compile.mode import Mode
X = pt.matrix("X", shape=(40, 3))
out = pt.linalg.slogdet(X @ X.T + 0.5 * pt.eye(40))[1]
fn = pytensor.function([X], out, mode=autotune.mode(base=Mode("py", "fast_run")))
print(autotune.explain(fn).decisions[0].problem.fingerprint)
"""


def test_a_fingerprint_is_the_same_in_another_process():
    X = pt.matrix("X", shape=(N, 3))
    here = print_of([X], slogdet(X @ X.T + 0.5 * pt.eye(N))[1])
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert run.stdout.split()[-1] == here


DIFFERENT = {
    "request": lambda K, U: solve(K, U[:, 0]),
    "operation": lambda K, U: slogdet(pt.exp(K))[1],
    "structure": lambda K, U: slogdet(U @ U.T + 2 * pt.eye(N) + pt.outer(U[:, 0], U[:, 0]))[1],
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_a_fingerprint_tells_other_expressions_apart(what):
    inputs, K = low_rank()
    assert print_of(inputs, slogdet(K)[1]) != print_of(inputs, DIFFERENT[what](K, inputs[0]))


def test_a_fingerprint_tells_inputs_of_other_names_apart():
    prints = {print_of(inputs, slogdet(K)[1]) for inputs, K in (low_rank(name="U"), low_rank(name="V"))}
    assert len(prints) == 2


def test_equal_problems_are_numbered_so_that_each_can_be_named():
    A, B = pt.matrix(shape=(N, N)), pt.matrix(shape=(N, N))
    first, second = (p.fingerprint for p in problems([A, B], [inv(A), inv(B)]))
    assert second == f"{first}#2"


# -- source and variable --------------------------------------------------------------------------


def test_the_source_is_the_line_that_makes_the_matrix():
    U, d = pt.matrix("U", shape=(N, 3)), pt.vector("d", shape=(N,))
    line = inspect.currentframe().f_lineno + 1
    K = U @ U.T + pt.diag(d)
    [problem] = problems([U, d], slogdet(K)[1])
    assert problem.source == f"test_naming.py:{line}"


def test_without_traces_there_is_no_source():
    from autotune.read.naming import source_of

    A = pt.matrix("A")
    A.tag.trace = []
    assert source_of(A) is None


# -- rules ----------------------------------------------------------------------------------------

KNOWN = Traits(
    rv="y1", source="model.py:12", fingerprint="abcdefgh#2", positive_definite=True, symmetric=True
)


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ({"rv": "y1"}, True),
        ({"rv": "y*"}, True),
        ({"rv": "y2"}, False),
        ({"source": "model.py:*"}, True),
        ({"source": "model.py:1"}, False),
        ({"fingerprint": "abcdefgh#2"}, True),
        ({"fingerprint": "abcdefgh"}, False),
        ({"fingerprint": "abcdefgh*"}, True),
        ({"positive_definite": True}, True),
        ({"positive_definite": False}, False),
        ({"symmetric": True, "rv": "y1"}, True),
        ({"symmetric": True, "rv": "x"}, False),
    ],
)
def test_a_trait_is_matched(match, holds):
    assert Match(**match).holds("K", "solve", ("dense",), 5, KNOWN) == holds


@pytest.mark.parametrize("key", ["rv", "source", "fingerprint"])
def test_an_unknown_trait_matches_no_condition_on_it(key):
    assert not Match(**{key: "*"}).holds("K", "solve", ("dense",), 5)


@pytest.mark.parametrize(
    ("general", "special", "covered"),
    [
        ({"rv": "y*"}, {"rv": "y1"}, True),
        ({"rv": "y1"}, {"rv": "y*"}, False),
        ({"source": "m.py:*"}, {"source": "m.py:3", "name": "K"}, True),
        ({"fingerprint": "abcdefgh"}, {}, False),
        ({"symmetric": True}, {"symmetric": True}, True),
        ({"symmetric": True}, {"symmetric": False}, False),
        ({"positive_definite": True}, {"symmetric": True}, False),
    ],
)
def test_a_match_covers_another_only_if_its_traits_do(general, special, covered):
    assert covers(Match(**general), Match(**special)) == covered


@pytest.mark.parametrize("key", ["source", "fingerprint", "positive_definite"])
def test_a_rule_by_a_trait_hits_one_of_two_matrices(key):
    A, B, b = pt.matrix("A", shape=(N, N)), pt.matrix("B", shape=(N, N)), pt.vector("b", shape=(N,))
    P = assume(A @ A.T, positive_definite=True)
    Q = B @ B + B
    outputs = [solve(P, b), solve(Q, b)]
    target = next(p for p in problems([A, B, b], outputs) if p.positive_definite)
    rule = forced("lu", match={key: getattr(target, key)})
    chosen = {
        d.problem.positive_definite: d.winner.reason
        for d in autotune.explain(compile_with([A, B, b], outputs, rule)).decisions
    }
    assert chosen[True] == "forced by the policy"
    assert chosen[False] != "forced by the policy"


# -- the table ------------------------------------------------------------------------------------


def named(name=None, **traits):
    return Problem((Request("solve"),), dense(5), name=name, **traits)


def test_traits_are_told_only_where_names_do_not_tell_problems_apart():
    assert told_apart([named("K", rv="a"), named("L", rv="a")]) == ["", ""]
    assert told_apart([named(rv="a")]) == [""]
    assert told_apart([named(rv="a"), named(rv="b")]) == [", rv a", ", rv b"]
    twice = [named("K", rv="a", source="m.py:1"), named("K", rv="a", source="m.py:2")]
    assert told_apart(twice) == [", source m.py:1", ", source m.py:2"]
    alike = [named(fingerprint="abcdefgh"), named(fingerprint="abcdefgh#2")]
    assert told_apart(alike) == [", fingerprint abcdefgh", ", fingerprint abcdefgh#2"]


# -- PyMC -----------------------------------------------------------------------------------------


def three_covariances(pm):
    """Of the second the observed data are 2-D, so that its covariance is no variable any more."""
    with pm.Model() as model:
        noise = pm.HalfNormal("noise")
        for i, shape in enumerate([(N,), (3, N), (N,)]):
            W = pm.Normal(f"W{i}", shape=(N, 2))
            pm.MvNormal(f"y{i}", 0, cov=W @ W.T + noise * pt.eye(N), observed=np.ones(shape))
    return model


@pytest.mark.pymc
def test_the_variable_is_known_in_every_function_of_a_model():
    pm = pytest.importorskip("pymc")
    with autotune.enabled():
        model = three_covariances(pm)
        compiled = [
            model.compile_logp(mode=python_mode()),
            model.compile_logp(mode=python_mode(), sum=False),
            model.compile_dlogp(mode=python_mode()),
        ]
    for fn in compiled:
        assert {d.problem.rv for d in autotune.explain(fn).decisions} == {"y0", "y1", "y2"}


@pytest.mark.pymc
@pytest.mark.parametrize("rv", in_turn(["y0", "y1"]))
def test_one_rule_changes_one_term_of_a_model_with_three_covariances_and_nothing_else(rv):
    pm = pytest.importorskip("pymc")

    def compiled(*rules):
        with autotune.enabled({"rules": [{"force": "woodbury"}, *rules]}):
            model = three_covariances(pm)
            return model, model.logp_dlogp_function(ravel_inputs=True, mode=python_mode())

    _, before = compiled()
    model, after = compiled({"match": {"rv": rv}, "force": "cholesky"})
    chosen = {d.problem.rv: d.chosen for d in autotune.explain(before).decisions}
    assert chosen == {"y0": "woodbury", "y1": "woodbury", "y2": "woodbury"}
    changed = {d.problem.rv: d.chosen for d in autotune.explain(after).decisions}
    assert changed == chosen | {rv: "cholesky"}
    factors = [sum("SharedCholesky" in op for op in op_names(f._pytensor_function)) for f in (before, after)]
    assert factors == [0, 1]
    point = 0.1 * np.random.default_rng(0).normal(size=sum(v.size for v in model.initial_point().values()))
    for fn in (before, after):
        fn.set_extra_values({})
    for expected, found in zip(before(point), after(point), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)
