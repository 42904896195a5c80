"""A saved plan compiles again to the same choices; who forbids gets PyTensor's result or a clear error."""

import random
import tempfile
from pathlib import Path

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_plain, in_turn, op_names, python_mode, relative_error, spd
from pytensor.assumptions import assume
from pytensor.tensor.linalg import cholesky, det, inv, slogdet, solve, solve_triangular

import autotune
from autotune.policy import PolicyError
from autotune.policy.names import REQUESTS
from autotune.strategies import STRATEGIES

N = 24
NAMES = [s.name for s in STRATEGIES]
rng = np.random.default_rng(5)
SPD_VALUE = spd(N, rng)
VALUES = [SPD_VALUE, spd(N, rng), rng.normal(size=N), rng.normal(size=(N, 3)), rng.uniform(1, 2, N)]

EXAMPLES = dict(zip(["A", "B", "b", "U", "d"], VALUES, strict=True))


def variables(known: bool):
    n = N if known else None
    A, B = pt.matrix("A", shape=(n, n)), pt.matrix("B", shape=(n, n))
    return A, B, pt.vector("b", shape=(n,)), pt.matrix("U", shape=(n, 3)), pt.vector("d", shape=(n,))


def mvnormal(matrix, y):
    L = cholesky(matrix)
    density = -0.5 * pt.sqr(solve_triangular(L, y, lower=True)).sum() - pt.log(pt.diagonal(L)).sum()
    return pt.switch(pt.all(pt.diagonal(L) > 0), density, -np.inf)


def divergence(A, B):
    L = cholesky(A)
    M = solve_triangular(L, cholesky(B), lower=True)
    return pt.sqr(M).sum() + slogdet(A)[1] - slogdet(B)[1]


GRAPHS = {
    "solve": lambda A, B, b, U, d: [solve(A, b)],
    "determinants": lambda A, B, b, U, d: [pt.log(pt.abs(det(A))), det(A)],
    "inverse and logdet": lambda A, B, b, U, d: [b @ inv(A) @ b, *slogdet(A)],
    "two matrices": lambda A, B, b, U, d: [solve(A, b), inv(B), slogdet(B)[1]],
    "tagged": lambda A, B, b, U, d: [solve(assume(A, positive_definite=True), b), slogdet(A)[1]],
    "mvnormal": lambda A, B, b, U, d: [mvnormal(A, b)],
    "divergence": lambda A, B, b, U, d: [divergence(A, B)],
    "low rank": lambda A, B, b, U, d: [solve(U @ U.T + pt.diag(d), b), slogdet(U @ U.T + pt.diag(d))[1]],
    "low rank, mvnormal": lambda A, B, b, U, d: [mvnormal(U @ U.T + pt.diag(d), b)],
    "nested": lambda A, B, b, U, d: [solve(A, solve(B, b)), slogdet(A)[1]],
}


def a_policy(draw: random.Random, known: bool) -> dict:
    """Something that a user may demand."""
    policy: dict = {"margin": draw.choice([0, 0.05, 0.3])}
    rules = []
    if draw.random() < 0.7:
        rules.append({"forbid": draw.sample(NAMES, draw.randint(1, len(NAMES)))})
    if draw.random() < 0.4:
        rule = {"force": draw.choice(NAMES)}
        if draw.random() < 0.7:
            rule["match"] = {"request": draw.sample(list(REQUESTS), draw.randint(1, 4))}
        rules.append(rule)
    if rules:
        policy["rules"] = rules
    if draw.random() < 0.4:
        policy["memory_limit"] = draw.choice(["1KiB", "20KiB", "1GiB"])
    if not known and draw.random() < 0.5:
        policy["sizes"] = {"A[0]": N, "B[0]": N, "U[0]": N} | draw.choice([{}, {"U[1]": 3}])
    return policy


def compiled(graph, known, policy, *, examples=False):
    inputs = variables(known)
    mode = autotune.mode(policy, base=python_mode(), example_inputs=EXAMPLES if examples else None)
    return pytensor.function(inputs, GRAPHS[graph](*inputs), mode=mode, on_unused_input="ignore")


def attempted(graph, known, policy, **given):
    """The function, or the message of a policy that cannot be obeyed."""
    try:
        return compiled(graph, known, policy, **given), ""
    except PolicyError as error:
        return None, str(error)


def assignments(fn):
    return [decision.assignment for decision in autotune.explain(fn).decisions]


def same(fn, others) -> bool:
    return all(relative_error(a, e) < 1e-6 for a, e in zip(fn(*VALUES), others, strict=True))


@pytest.mark.parametrize("seed", in_turn(range(60), 4))
def test_a_saved_plan_compiles_again_to_the_same_choices_and_values(seed):
    draw = random.Random(seed)
    graph, known = draw.choice(list(GRAPHS)), draw.random() < 0.7
    policy, examples = a_policy(draw, known), draw.random() < 0.3
    inputs = variables(known)
    plain = compile_plain(inputs, GRAPHS[graph](*inputs))(*VALUES)
    fn, refused = attempted(graph, known, policy, examples=examples)
    if fn is None:
        assert "force" in refused or "No strategy is left" in refused
        return
    assert same(fn, plain)
    with tempfile.TemporaryDirectory() as folder:
        pins = autotune.explain(fn).save(Path(folder) / "pins.yaml")
        again = compiled(graph, known, pins)
        assert assignments(again) == assignments(fn)
        assert op_names(again) == op_names(fn)
        assert same(again, plain)


@pytest.mark.parametrize("graph", ["solve", "low rank", "two matrices"])
@pytest.mark.parametrize("sizes", [{"A[0]": 3000, "U[0]": 3000}, {"A[1]": 3000, "d[0]": 3000}], ids=str)
def test_a_plan_by_hints_beside_examples_of_another_size_compiles_again(graph, sizes, tmp_path):
    fn = compiled(graph, False, {"margin": 0, "sizes": sizes}, examples=True)
    again = compiled(graph, False, autotune.explain(fn).save(tmp_path / "pins.yaml"))
    assert assignments(again) == assignments(fn)
    orders = [[d.problem.n for d in autotune.explain(f).decisions] for f in (fn, again)]
    assert orders[0] == orders[1]


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize(
    "policy", [{"memory_limit": "1KiB"}, {"rules": [{"forbid": NAMES}]}], ids=["memory", "all"]
)
def test_where_nothing_is_left_the_graph_is_pytensors(graph, policy):
    inputs = variables(True)
    fn = compiled(graph, True, policy)
    assert op_names(fn) == op_names(compile_plain(inputs, GRAPHS[graph](*inputs)))


@pytest.mark.parametrize("graph", GRAPHS)
def test_pins_of_another_graph_change_no_result(graph, tmp_path):
    pins = autotune.explain(compiled("two matrices", True, {"rules": [{"force": "lu"}]})).save(
        tmp_path / "p.yaml"
    )
    inputs = variables(True)
    plain = compile_plain(inputs, GRAPHS[graph](*inputs))(*VALUES)
    fn, refused = attempted(graph, True, pins)
    assert "p.yaml" in refused if fn is None else same(fn, plain)
