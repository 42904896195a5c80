"""Choosing is a pure function of a problem, a policy and a profile."""

from dataclasses import replace

import pytest
from helpers import diagonal_plus_low_rank
from hypothesis import given
from hypothesis import strategies as st

from autotune.choose import choose, seconds
from autotune.policy import PolicyError
from autotune.policy.files import load_policy
from autotune.problem import Options, Problem, Request, dense
from autotune.strategies import STRATEGIES
from autotune.strategies.base import has_thin_cotangents, with_backward
from cost_models import KERNEL_BY_NAME, generic_profile

PROFILE = generic_profile()
SOLVE, LOGDET = Request("solve", 1, form="pos"), Request("logdet", form="lu")
DENSE = Problem(requests=(SOLVE, LOGDET), term=dense(1000), positive_definite=True, symmetric=True)
LOW_RANK = replace(DENSE, term=diagonal_plus_low_rank(1000, 5))
FIRST_NAMES = ["keep", "cholesky", "cholesky_or_lu", "lu", "woodbury", "cg", "lanczos", "diagonal"]
FIRST_NAMES += ["low_rank_update", "spectrum", "triangular", "banded", "quasiseparable", "toeplitz"]
FIRST_NAMES += ["circulant", "sparse_ldl", "known_inverse", "eliminate_first", "eliminate_last"]
FIRST_NAMES += ["kronecker", "block_diagonal", "product", "congruence", "inverse", "block_triangular"]
FIRST_NAMES += ["permuted"]


def decide(problem, **policy):
    return choose(problem, load_policy(policy, layers=False), PROFILE)


def test_registry_is_ordered_and_named():
    assert [s.name for s in STRATEGIES] == FIRST_NAMES


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES if s.concerns(LOW_RANK)], ids=lambda s: s.name)
@given(
    n=st.integers(0, 5000),
    rank=st.integers(0, 300),
    columns=st.integers(0, 500),
    batch=st.integers(1, 20),
    differentiated=st.booleans(),
)
def test_work_is_priced_by_known_kernels_and_grows_with_every_size(
    strategy, n, rank, columns, batch, differentiated
):
    problem = replace(
        LOW_RANK,
        term=diagonal_plus_low_rank(n, rank),
        batch=batch,
        requests=(Request("solve", columns, form="pos"),),
        differentiated=differentiated,
    )
    options = Options(condition_number=10.0)
    work = strategy.work(problem, options)
    assert all(call.kernel in KERNEL_BY_NAME for call in work.calls)
    assert work.peak_bytes >= 0
    price, _ = seconds(problem, (strategy.name,), options, PROFILE)
    for bigger in (
        replace(problem, term=diagonal_plus_low_rank(n + 1, rank)),
        # one matrix alone is not served by a loop over a batch
        *([replace(problem, batch=batch + 1)] if batch > 1 else []),
        replace(problem, requests=(Request("solve", columns + 1, form="pos"),)),
    ):
        if has_thin_cotangents(bigger) != has_thin_cotangents(problem):
            continue  # served in another way
        assert seconds(bigger, (strategy.name,), options, PROFILE)[0] >= price * (1 - 1e-12)


def test_small_rank_takes_woodbury_and_large_does_not():
    assert decide(LOW_RANK).chosen == "woodbury"
    assert decide(replace(LOW_RANK, term=diagonal_plus_low_rank(3000, 3600))).chosen != "woodbury"


def test_general_matrix_cannot_take_cholesky():
    decision = decide(
        replace(
            DENSE, positive_definite=False, symmetric=False, requests=(replace(SOLVE, form="gen"), LOGDET)
        )
    )
    assert decision.candidate("cholesky").reason == "the matrix is not known to be positive definite"
    assert decision.chosen == "cholesky_or_lu"


def test_a_gain_within_the_margin_keeps_the_graph():
    inverse = replace(DENSE, requests=(Request("inverse", form="inverse"),))
    assert decide(inverse).chosen == "cholesky"
    kept = decide(inverse, margin=0.99)
    assert kept.chosen == "keep"
    assert "margin of 99 %" in kept.winner.reason


def test_unknown_sizes_need_a_win_for_every_size():
    unknown = replace(LOW_RANK, term=diagonal_plus_low_rank(None, None))
    decision = decide(unknown, rules=[{"forbid": ["cholesky", "cholesky_or_lu", "lu"]}])
    assert decision.chosen == "keep"
    assert "size unknown (n, rank)" in decision.winner.reason
    assert decision.candidate("woodbury").could_serve
    assert decide(
        replace(DENSE, term=dense(None), requests=(replace(SOLVE, form="gen"), LOGDET, Request("inverse")))
    ).assignment


def test_memory_limit_rules_out():
    decision = decide(replace(LOW_RANK, requests=(LOGDET,)), memory_limit="1MB")
    assert decision.chosen == "woodbury"
    assert "memory_limit" in decision.candidate("keep").reason


def test_force_is_obeyed_and_the_others_are_still_priced():
    decision = decide(LOW_RANK, rules=[{"force": "cholesky"}])
    assert decision.chosen == "cholesky"
    assert decision.winner.reason == "forced by the policy"
    assert decision.candidate("woodbury").reason == "the policy forces another"


def test_force_of_one_request_splits_the_problem():
    decision = decide(DENSE, rules=[{"match": {"request": "solve"}, "force": "cg"}])
    assert decision.chosen.startswith("cg+")
    assert decision.assignment[0] == "cg"
    assert decision.assignment[1] in ("cholesky", "keep")


def test_force_that_cannot_apply_is_an_error_that_says_why():
    with pytest.raises(
        PolicyError, match=r"forces 'woodbury' on solve, logdet of a matrix .*: the matrix is not diagonal"
    ):
        decide(DENSE, rules=[{"force": "woodbury"}])
    with pytest.raises(PolicyError, match="does not provide logdet"):
        decide(DENSE, rules=[{"force": "cg"}])


def test_forbid_is_obeyed_and_names_the_rule():
    decision = decide(LOW_RANK, rules=[{"match": {"structure": "low_rank"}, "forbid": "woodbury"}])
    assert decision.chosen != "woodbury"
    assert "forbidden by <dict> rules[0]" in decision.candidate("woodbury").reason


def test_everything_forbidden_keeps_the_graph():
    decision = decide(DENSE, rules=[{"forbid": FIRST_NAMES}])
    assert decision.chosen == "keep"


def test_cg_needs_a_reason():
    one = replace(DENSE, term=dense(4000), requests=(SOLVE,))
    assert "no condition number" in decide(one).candidate("cg").reason
    assert decide(one, rules=[{"options": {"condition_number": 10}}]).chosen == "cg"
    assert decide(one, rules=[{"options": {"condition_number": 1e8}}]).chosen != "cg"


def test_determinant_beside_log_determinant_is_not_left_to_overflow():
    both = replace(DENSE, positive_definite=False, requests=(Request("determinant", form="lu"), LOGDET))
    assert decide(both).chosen == "cholesky_or_lu"
    assert decide(both, rules=[{"forbid": "cholesky_or_lu"}]).chosen == "lu"


@pytest.mark.parametrize("asked", [Request("solve", 1), Request("logdet", form="lu")], ids=lambda r: r.kind)
def test_one_request_alone_on_general_matrices_is_left_to_pytensor_but_in_compiled_batches(asked):
    batch = Problem((asked,), dense(64), batch=200, linker="perform")
    free = dict.fromkeys(("batch_lu", "batch_solve", "stream"), 0.0)

    class Cheap:
        source = "a profile with free factors"

        def seconds(self, call, dtype):
            return free.get(call.kernel, PROFILE.seconds(call, dtype))

        def uncertainty(self, call, dtype):
            return 0.0

    policy = load_policy({"margin": 0}, layers=False)
    assert choose(batch, policy, Cheap()).chosen == "keep"
    assert choose(replace(batch, linker="numba"), policy, Cheap()).chosen != "keep"
    assert choose(replace(batch, requests=(SOLVE, LOGDET)), policy, Cheap()).chosen != "keep"
    assert decide(batch, rules=[{"force": "lu"}]).chosen == "lu"


def test_backward_pass_adds_what_pullbacks_ask():
    forward = replace(LOW_RANK, differentiated=True)
    structured = [(r.kind, r.columns) for r in with_backward(forward, structured=True).requests]
    assert structured == [("solve", 1), ("logdet", 1), ("solve", 1), ("inverse_diagonal", 1), ("solve", 5)]
    of_dense = [r.kind for r in with_backward(forward, structured=False).requests]
    assert of_dense == ["solve", "logdet", "solve", "inverse"]
    assert with_backward(LOW_RANK, structured=True) == LOW_RANK
    for name in ("keep", "cholesky", "woodbury"):
        names = (name, name)
        assert (
            seconds(forward, names, Options(), PROFILE)[0] > seconds(LOW_RANK, names, Options(), PROFILE)[0]
        )


@pytest.mark.parametrize("linker", [None])
def test_unknown_linker_gets_no_ops_of_ours(linker):
    decision = decide(replace(LOW_RANK, linker=linker))
    assert decision.chosen in ("keep", "cholesky", "lu")
    assert decision.candidate("woodbury").reason == "the linker in force cannot run its operations"


@pytest.mark.parametrize("name", ["lu", "cholesky_or_lu"])
def test_what_cholesky_does_with_less_work_is_not_taken_where_it_is_open(name):
    inverse = replace(DENSE, requests=(Request("inverse", form="inverse"),))
    assert decide(inverse).candidate(name).reason == "cholesky does the same with less work"
    assert decide(inverse, rules=[{"forbid": "cholesky"}]).chosen == "cholesky_or_lu"
    assert decide(inverse, rules=[{"force": name}]).chosen == name


@pytest.mark.parametrize("linker", ["numba", "perform"])
def test_two_different_factors_have_no_compiled_code_and_small_matrices_do_without(linker):
    """As ``Z P Z' + H`` of a Kalman filter, with few series."""
    for n, rank, woodbury in [(3, 2, False), (20, 3, False), (2000, 4, True)]:
        term = diagonal_plus_low_rank(n, rank, symmetric=False)
        filtered = Problem((Request("solve", 1, form="gen"), LOGDET), term, linker=linker)
        assert (decide(filtered).chosen == "woodbury") is woodbury


class Uncertain:
    """The generic profile, whose prices are wrong by a factor of ``1 + share``."""

    source = "uncertain"

    def __init__(self, share):
        self.share = share

    def seconds(self, call, dtype):
        return PROFILE.seconds(call, dtype)

    def uncertainty(self, call, dtype):
        return self.share * self.seconds(call, dtype)


def test_a_gain_of_many_times_exceeds_prices_that_are_wrong_by_several():
    """As those of sizes far beyond what was calibrated are."""
    problem = replace(LOW_RANK, term=diagonal_plus_low_rank(5000, 5))
    policy = load_policy({}, layers=False)
    assert choose(problem, policy, Uncertain(3.0)).chosen == "woodbury"
    assert choose(problem, policy, Uncertain(1e9)).chosen != "woodbury"
