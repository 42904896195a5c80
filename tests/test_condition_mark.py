"""A condition number that is declared in the code: `autotune.assume_condition_number`."""

import itertools
import math
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import (
    chosen,
    compile_plain,
    compile_with,
    forced,
    in_turn,
    op_names,
    python_mode,
    relative_error,
    spd,
)
from probing_cases import DENSE, decide
from pytensor.assumptions import assume
from pytensor.compile.mode import Mode
from pytensor.graph.replace import vectorize_graph
from pytensor.graph.traversal import ancestors

import autotune
from autotune.algebra.marks import Mark
from autotune.algebra.requests import RequestOp
from autotune.evidence import probe
from autotune.policy.files import load_policy
from autotune.problem import dense
from autotune.problem.spectrum import Spectrum

BIG, N, K = 3000, 30, 4
big, M = pt.matrix("big", shape=(BIG, BIG)), pt.matrix("M", shape=(BIG, BIG))
A, U = pt.matrix("A", shape=(N, N)), pt.matrix("U", shape=(N, K))
d, b, s = pt.vector("d", shape=(N,)), pt.vector("b", shape=(N,)), pt.scalar("s")
_rng = np.random.default_rng(0)
VALUES = {
    A: spd(N, _rng),
    U: _rng.normal(size=(N, K)),
    d: _rng.uniform(1, 2, N),
    b: _rng.normal(size=N),
    s: np.array(0.7),
}
CONSTANT = pt.constant(VALUES[A])


def mark(matrix, number=2):
    return autotune.assume_condition_number(matrix, number)


def leave(matrix):
    return matrix


def definite(matrix):
    return assume(matrix, positive_definite=True)


def declared(number):
    return {"rules": [{"options": {"condition_number": number}}]}


def compiled(matrix, policy=None, **given):
    """A solve with a matrix of order ``BIG``, only compiled."""
    solution = pt.linalg.solve(definite(matrix), pt.ones(BIG))
    mode = autotune.mode(policy, base=python_mode(), **given)
    return pytensor.function([big, M, s], solution, mode=mode, on_unused_input="ignore")


def decision_of(fn):
    [decision] = autotune.explain(fn).decisions
    return decision


def explained(fn):
    return " ".join(str(autotune.explain(fn)).split())


# -- what is chosen -------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "iterates"), [(2, True), (1e8, False)])
def test_the_choice_is_that_by_a_policy_with_the_number(number, iterates):
    found, expected = decision_of(compiled(mark(big, number))), decision_of(compiled(big, declared(number)))
    assert (found.chosen == "cg") is iterates
    for key in ("chosen", "condition_number", "max_iterations", "preconditioner"):
        assert getattr(found, key) == getattr(expected, key)
    assert [(c.name, c.seconds) for c in found.candidates] == [
        (c.name, c.seconds) for c in expected.candidates
    ]


@pytest.mark.parametrize(
    "matrix",
    [
        mark(big).T,
        3.0 * mark(big),
        s * mark(big.T) / 2,
        autotune.precondition(mark(big), M),
        2.5 * mark(autotune.precondition(big, M)),
        mark(mark(big, 1e8)),
        mark(mark(big), 1e8),
        mark(big)[None],
    ],
    ids=[
        "transpose",
        "multiple",
        "quotient",
        "preconditioned",
        "of_the_product",
        "inner",
        "outer",
        "leading",
    ],
)
def test_views_multiples_and_other_marks_keep_the_number(matrix):
    decision = decision_of(compiled(matrix))
    assert (decision.chosen, decision.condition_number) == ("cg", 2.0)


@pytest.mark.parametrize("matrix", [mark(big) + s * pt.eye(BIG), mark(big) * big, mark(big) @ big])
def test_what_is_made_of_a_marked_matrix_is_another(matrix):
    decision = decision_of(compiled(matrix))
    assert decision.problem.spectrum is None
    assert decision.chosen != "cg"


def test_a_multiple_keeps_the_preconditioner_that_its_number_is_about():
    assert decision_of(compiled(s * mark(autotune.precondition(big, M)))).problem.inverse == dense(BIG)


def test_the_policy_overrules_the_mark_and_the_plan_tells_both():
    slow, quick = compiled(mark(big), declared(1e8)), compiled(mark(big, 1e8), declared(2))
    assert decision_of(slow).chosen != "cg"
    assert decision_of(quick).chosen == "cg"
    assert "declared in the code: condition number at most 1e+08; the policy says 2" in explained(quick)
    told = explained(compiled(mark(big)))
    assert "declared in the code: condition number at most 2 " in told
    assert "the policy says" not in told


def test_what_is_declared_comes_before_what_the_structure_says_and_is_not_probed():
    matrix = mark(U @ U.T + s * pt.eye(N), 7)
    fn = compile_with([U, s, b], pt.linalg.solve(definite(matrix), b))
    assert decision_of(fn).problem.spectrum == Spectrum("declared", condition_number=7.0)
    policy = load_policy({"probe": True}, layers=False)
    assert probe.kinds_to_try(DENSE, policy)
    told = replace(DENSE, spectrum=Spectrum("declared", condition_number=7.0))
    assert not probe.kinds_to_try(told, policy)
    assert decide(told).condition_number == 7.0


def test_the_mark_of_a_constant_is_read_before_it_is_folded():
    fn = compile_with([b], pt.linalg.solve(mark(definite(CONSTANT)), b))
    assert decision_of(fn).condition_number == 2.0


def test_pins_iterate_as_the_mark_made_it(tmp_path):
    first = compiled(mark(big))
    path = autotune.explain(first).save(tmp_path / "pins.yaml")
    for matrix in (mark(big), big):
        second = decision_of(compiled(matrix, path))
        for key in ("chosen", "condition_number", "max_iterations", "solve_rtol"):
            assert getattr(second, key) == getattr(decision_of(first), key)


def test_a_number_survives_autodiff_where_sizes_are_not_known_before():
    matrix, rhs = pt.matrix("matrix"), pt.vector("rhs")
    whitened = pt.linalg.solve_triangular(pt.linalg.cholesky(mark(matrix)), rhs, lower=True)
    loss = autotune.tune((whitened**2).sum())
    assert any(isinstance(v.owner_op, RequestOp) for v in ancestors([loss]))
    hints = {"sizes": {"matrix[0]": BIG, "matrix[1]": BIG, "rhs[0]": BIG}}
    fn = compile_with([matrix, rhs], [loss, pt.grad(loss, matrix)], hints)
    assert chosen(fn)[-1] == "cg"
    assert autotune.explain(fn).decisions[-1].condition_number == 2.0


# -- what is computed -----------------------------------------------------------------------------

LOSSES = {
    "quadratic": lambda m: b @ pt.linalg.solve(m(definite(A)), b),
    "multiple": lambda m: b @ pt.linalg.solve(definite(s * m(A)).T, b),
    "low_rank": lambda m: b @ pt.linalg.solve(m(definite(U @ U.T + pt.diag(d))), b),
    "scaled_dense_sum": lambda m: b @ pt.linalg.solve(definite(s * m(A + U @ U.T)), b),
    "term": lambda m: b @ pt.linalg.solve(definite(m(A) + U @ U.T + pt.diag(d)), b),
    "likelihood": lambda m: b @ pt.linalg.solve(m(definite(A)), b) + pt.linalg.slogdet(m(definite(A)))[1],
    "constant": lambda m: b @ pt.linalg.solve(m(definite(CONSTANT)), b),
    "inverse": lambda m: b @ pt.linalg.inv(m(A)) @ b,
}


def value_and_gradients(loss):
    return [loss, *pt.grad(loss, [A, U, d, b, s], disconnected_inputs="ignore")]


@pytest.mark.parametrize(
    ("name", "tuned"),
    in_turn(itertools.product([n for n in LOSSES if n not in ("likelihood", "inverse")], [True, False]), 3),
)
def test_value_and_gradient_are_those_without_the_mark(name, tuned):
    loss, policy = LOSSES[name](mark), forced("cg")
    ours = autotune.tune(loss, policy) if tuned else loss
    fn = compile_with(list(VALUES), value_and_gradients(ours), policy)
    plain = compile_plain(list(VALUES), value_and_gradients(LOSSES[name](leave)))
    assert "BlockCG" in " ".join(op_names(fn))
    assert not any(isinstance(node.op, Mark) for node in fn.maker.fgraph.apply_nodes)
    for pair in zip(fn(*VALUES.values()), plain(*VALUES.values()), strict=True):
        assert relative_error(*pair) < 1e-7


def test_a_marked_structure_is_read_as_such():
    fn = compile_with([U, d, b], LOSSES["low_rank"](mark), forced("woodbury"))
    assert decision_of(fn).problem.structure == ("diagonal", "low_rank")
    plain = compile_plain([U, d, b], LOSSES["low_rank"](leave))
    assert relative_error(*(f(VALUES[U], VALUES[d], VALUES[b]) for f in (fn, plain))) < 1e-10


@pytest.mark.parametrize(
    ("name", "optimizer"), in_turn(itertools.product(LOSSES, ["fast_run", "fast_compile"]), 3)
)
def test_without_autotune_the_graph_is_the_one_without_the_mark(name, optimizer):
    base = python_mode() if optimizer == "fast_run" else Mode(linker="py", optimizer=optimizer)
    found, expected = (
        op_names(compile_plain(list(VALUES), value_and_gradients(LOSSES[name](m)), base))
        for m in (mark, leave)
    )
    assert found == expected


def test_of_a_batch_the_mark_is_dropped():
    batch = pt.tensor3("batch", shape=(5, N, N))
    vectorized = vectorize_graph(pt.linalg.solve(mark(autotune.precondition(A, A)), b), {A: batch})
    names = " ".join(op_names(compile_plain([batch, b], vectorized)))
    assert "Solve" in names
    assert "Specify" not in names


def test_a_pickled_graph_brings_its_marks():
    """In a process that has made none itself."""
    code = (
        "import pickle, sys, pytensor;"
        "A, b, x = pickle.load(sys.stdin.buffer);"
        "fn = pytensor.function([A, b], x, mode=pytensor.compile.mode.Mode('py', 'fast_run'));"
        "print(*[node.op for node in fn.maker.fgraph.toposort()])"
    )
    x = pt.linalg.solve(mark(definite(A)), b)
    sent = pickle.dumps((A, b, x))
    found = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert "CholeskySolve" in found.stdout.decode()
    assert "Specify" not in found.stdout.decode()


def test_a_function_of_a_marked_matrix_is_pickled():
    fn = pickle.loads(pickle.dumps(compile_with([A, b], LOSSES["quadratic"](mark), forced("cg"))))
    expected = VALUES[b] @ np.linalg.solve(VALUES[A], VALUES[b])
    assert fn(VALUES[A], VALUES[b]) == pytest.approx(expected, rel=1e-9)


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0.99, 0, -3, math.nan, math.inf])
def test_a_number_that_is_no_condition_number_is_refused(number):
    with pytest.raises(ValueError, match=r"must be a finite number, 1 or more"):
        mark(A, number)


@pytest.mark.parametrize("number", ["50", None, True, np.array(50.0), s, 1j])
def test_what_is_no_plain_number_is_refused(number):
    with pytest.raises(TypeError, match=r"must be a plain number"):
        mark(A, number)


@pytest.mark.parametrize("matrix", [d, pt.tensor3("batch"), pt.zmatrix("complex"), 3.0])
def test_what_is_no_real_matrix_is_refused(matrix):
    with pytest.raises(TypeError, match=r"The matrix has .* It must be a real matrix"):
        mark(matrix)


@pytest.mark.parametrize("number", [1, 50, np.float32(50), np.int64(50)])
def test_plain_numbers_of_any_kind_are_one_mark(number):
    assert mark(A, number).owner.op == mark(A, float(number)).owner.op


@pytest.mark.parametrize("tuned", [True, False], ids=["tune", "mode"])
def test_of_a_kronecker_product_changes_nothing_about_its_parts(tuned):
    B = pt.matrix("B", shape=(3, 3))
    K = mark(pt.linalg.kron(B, assume(A, positive_definite=True)), 100)
    y = pt.vector("y", shape=(3 * N,))
    value = y @ pt.linalg.solve(K, y) + pt.linalg.slogdet(K)[1]
    given = [spd(3, _rng), VALUES[A], _rng.normal(size=3 * N)]
    fn = compile_with([B, A, y], autotune.tune(value) if tuned else value)
    assert "kronecker" in chosen(fn)
    assert relative_error(fn(*given), compile_plain([B, A, y], value)(*given)) < 1e-10
