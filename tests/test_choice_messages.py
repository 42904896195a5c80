"""What a choice says of itself, and of a demand that cannot be met."""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import compile_with, relative_error, spd
from pytensor.assumptions import assume
from pytensor.scan import scan

import autotune
from autotune.policy import PolicyError

N = 15
K, b = pt.matrix("K", shape=(N, N)), pt.vector("b", shape=(N,))


def steps():
    """Four solves with K, in a loop."""
    definite = assume(K, positive_definite=True)
    return scan(
        lambda x, K: pt.linalg.solve(definite, x),
        outputs_info=[b],
        non_sequences=[K],
        n_steps=4,
        return_updates=False,
    )


def test_the_winner_of_unknown_sizes_is_not_compared_with_itself():
    A, v = pt.matrix("A"), pt.vector("v")
    x = pt.linalg.solve(assume(A, positive_definite=True), v)
    [decision] = autotune.explain(compile_with([A, v], x)).decisions
    others = [c.reason for c in decision.candidates if c.name != decision.chosen]
    assert f"not proven cheaper than {decision.chosen} for every size" in others
    assert "not proven" not in decision.candidate(decision.chosen).reason


def test_a_force_that_fails_on_some_requests_says_which_and_how_to_narrow_it():
    definite = assume(K, positive_definite=True)
    asked = [pt.linalg.solve(definite, b), pt.linalg.cholesky(definite)]
    with pytest.raises(PolicyError) as told:
        compile_with([K, b], asked, {"rules": [{"force": "cg"}]})
    found = "forces 'cg' on solve, factor of matrix 'K' (dense, n=15): does not provide factor."
    assert found in str(told.value)
    assert "match: {request: [solve, inv_quad]}" in str(told.value)


def test_the_rule_that_the_message_recommends_is_obeyed():
    rule = {"match": {"request": ["solve", "inv_quad"]}, "force": "cg"}
    x = steps()[-1]
    fn = compile_with([K, b], [x, *pt.grad(x.sum(), [K, b])], {"rules": [rule]})
    A = spd(N, np.random.default_rng(0))
    value, *_ = fn(A, np.ones(N))
    assert relative_error(value, np.linalg.solve(np.linalg.matrix_power(A, 4), np.ones(N))) < 1e-7
