"""Numbers at the ends of what a policy accepts: each is either refused in words, or obeyed."""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import chosen, compile_with, relative_error, spd
from pytensor.assumptions import assume

import autotune
from autotune.policy import PolicyError
from autotune.policy.files import load_policy

N = 40
K, b = pt.matrix("K", shape=(N, N)), pt.vector("b", shape=(N,))
RANK = {"name": "pivoted_cholesky", "rank": 10**18}


@pytest.mark.parametrize(
    ("accuracy", "options"),
    [
        ({}, {"condition_number": 1e40}),
        ({}, {"condition_number": 1e308}),
        ({"solve_rtol": 5e-324}, {"condition_number": 10}),
        ({}, {"preconditioner": RANK}),
        ({}, {"max_iterations": 2**63 - 1}),
    ],
    ids=str,
)
def test_a_forced_strategy_is_taken_whatever_the_numbers(accuracy, options, caplog):
    policy = {"accuracy": accuracy, "rules": [{"force": "cg", "options": options}]}
    fn = compile_with([K, b], pt.linalg.solve(assume(K, positive_definite=True), b), policy)
    assert chosen(fn) == ["cg"]
    assert not caplog.records
    A = spd(N, np.random.default_rng(0))
    assert relative_error(fn(A, np.ones(N)), np.linalg.solve(A, np.ones(N))) < 1e-8


def test_a_rank_beyond_the_order_is_priced_as_that_of_the_order():
    def price(rank):
        options = {"preconditioner": RANK | {"rank": rank}}
        rules = [{"force": "cg", "options": options}]
        fn = compile_with([K, b], pt.linalg.solve(assume(K, positive_definite=True), b), {"rules": rules})
        return autotune.explain(fn).price

    beyond, whole = price(10**18), price(N)
    assert (beyond.seconds, beyond.peak_bytes) == (whole.seconds, whole.peak_bytes)


def test_an_error_below_rounding_is_no_tolerance_for_an_estimate():
    with pytest.raises(PolicyError, match="found 1e-200; valid: a number from 1e-16 to 1, or null"):
        load_policy({"accuracy": {"logdet_rtol": 1e-200}}, layers=False)
