"""Crossovers are where the prices say, and are stated completely."""

from dataclasses import replace

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import diagonal_plus_low_rank
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autotune.choose import choose, with_crossover
from autotune.choose.candidates import seconds, strategy
from autotune.policy import Policy, PolicyError
from autotune.policy.crossover import Crossover
from autotune.policy.files import load_policy
from autotune.problem import Options, Problem, Request, dense
from cost_models import generic_profile

PROFILE = generic_profile()
SOLVE = Request("solve", 1, form="pos")
LOW_RANK = Problem(
    requests=(SOLVE, Request("logdet", form="lu")),
    term=diagonal_plus_low_rank(None, None),
    positive_definite=True,
    symmetric=True,
)
INVERSE_TIMES = Problem(requests=(Request("solve", None, form="inverse"),), term=dense(None))
PROBLEMS = {
    "low rank": LOW_RANK,
    "low rank, order known": LOW_RANK.with_sizes(n=1000),
    "low rank, rank known": LOW_RANK.with_sizes(rank=100),
    "low rank, before autodiff": replace(LOW_RANK, differentiated=True),
    "low rank, several columns": replace(LOW_RANK, requests=(replace(SOLVE, columns=None),)),
    "inverse times columns": INVERSE_TIMES,
}


def decided(problem, **policy):
    policy = load_policy(policy, layers=False)
    return with_crossover(choose(problem, policy, PROFILE), policy, PROFILE)


CROSSOVERS = {name: decided(problem).crossover for name, problem in PROBLEMS.items()}


def price(problem, name):
    if strategy(name).declines(problem, Options()) is not None:
        return float("inf")
    return seconds(problem, (name,) * len(problem.requests), Options(), PROFILE)[0]


def test_two_branches_are_not_compiled_for_a_gain_of_percents():
    general = Problem(requests=(Request("solve", None), Request("logdet", form="lu")), term=dense(None))
    for problem in (general, INVERSE_TIMES.with_sizes(n=8)):
        assert decided(problem).crossover is None


@pytest.mark.parametrize("name", PROBLEMS)
@settings(max_examples=60, deadline=None)
@given(n=st.floats(1, 15), rank=st.floats(0, 15), columns=st.floats(0, 12))
def test_the_dearer_of_the_two_is_taken_only_where_they_are_close(name, n, rank, columns):
    found, problem = CROSSOVERS[name], PROBLEMS[name]
    assert found is not None
    drawn = {"n": n, "rank": rank, "columns": columns}
    sizes = {key: round(2 ** drawn[key]) for key in problem.unknown_sizes}
    sized = problem.with_sizes(**sizes)
    rank = sized.sizes.get("rank")
    if rank is not None:  # where it reaches the order, woodbury ceases to serve from one size to the next
        assume(not 0.97 * sized.n <= rank <= 1.03 * sized.n)
    below, above = price(sized, found.below), price(sized, found.above)
    taken = below if found.is_below(sizes) else above
    assert taken <= 1.25 * min(below, above) + 2e-6


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_graph_compares_as_the_numbers_do(name):
    found, problem = CROSSOVERS[name], PROBLEMS[name]
    names = problem.unknown_sizes
    variables = {size: pt.lscalar(size) for size in names}
    compare = found.is_below(variables, pt)
    rng = np.random.default_rng(0)
    for _ in range(30):
        sizes = {size: int(2 ** rng.uniform(0, 18)) for size in names}
        assert compare.eval({variables[s]: v for s, v in sizes.items()}, mode="FAST_COMPILE") == (
            found.is_below(sizes)
        )


def test_known_sizes_and_sure_winners_have_no_crossover():
    assert decided(LOW_RANK.with_sizes(n=1000, rank=5)).crossover is None
    assert decided(LOW_RANK, rules=[{"forbid": "woodbury"}]).crossover is None
    assert decided(LOW_RANK, rules=[{"force": "woodbury"}]).crossover is None


def test_the_crossover_is_told_in_words():
    assert (
        str(Crossover(below="woodbury", above="keep", size="n", thresholds=(311.5,)))
        == "woodbury where n < 312, else keep"
    )
    in_proportion = Crossover(
        below="woodbury",
        above="keep",
        size="rank",
        thresholds=(0.6 * 64, 0.62 * 4096),
        over=("n",),
        grid=((64.0, 4096.0),),
    )
    assert str(in_proportion) == "woodbury where rank < 0.61 n, else keep"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"thresholds": []}, "0 thresholds; the grid has 1"),
        ({"over": ["rank"]}, "0 rows of grid"),
        ({"over": ["rank"], "grid": [[2.0, 1.0]], "thresholds": [1.0, 1.0]}, "does not increase"),
        ({"below": "woodbry"}, "woodbury"),
        ({"spline": 3}, "spline"),
    ],
)
def test_a_malformed_crossover_is_an_error_that_says_why(given, message):
    crossover = {"below": "woodbury", "above": "keep", "size": "n", "thresholds": [100.0]}
    rule = {"force": "keep", "pin": True, "crossover": crossover}
    assert isinstance(load_policy({"rules": [rule]}, layers=False), Policy)
    with pytest.raises(PolicyError, match=message):
        load_policy({"rules": [rule | {"crossover": crossover | given}]}, layers=False)
