"""Policies: what resolves to what, and the laws of overlaying and dumping."""

import pickle
import subprocess
import sys
from pathlib import Path

import pydantic
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autotune.policy import (
    PLANNED,
    REQUESTS,
    STRUCTURES,
    Accuracy,
    Options,
    Policy,
    Preconditioner,
    Rule,
    strategy_names,
)
from autotune.policy_files import dump_policy, load_policy, overlay


def policy(*rules: dict) -> Policy:
    return load_policy({"rules": list(rules)}, layers=False)


# --- resolve


def test_a_later_force_wins_and_names_its_rule():
    resolved = policy({"force": "lu"}, {"force": "cg"}).resolve("K", "solve", (), 10)
    assert (resolved.force, str(resolved.force_rule.origin)) == ("cg", "<dict> rules[1]")


def test_a_later_force_lifts_the_forbid_of_the_same_strategy_only():
    resolved = policy({"forbid": ["cg", "lu"]}, {"force": "cg"}).resolve(None, "solve", (), None)
    assert resolved.force == "cg"
    assert set(resolved.forbid) == {"lu"}


def test_a_later_forbid_cancels_the_force_of_the_same_strategy_only():
    forced = {"force": "cg"}
    assert policy(forced, {"forbid": "cg"}).resolve(None, "solve", (), None).force is None
    assert policy(forced, {"forbid": "cg"}).resolve(None, "solve", (), None).force_rule is None
    assert policy(forced, {"forbid": "lu"}).resolve(None, "solve", (), None).force == "cg"


def test_one_rule_may_force_one_strategy_and_forbid_others():
    resolved = policy({"force": "cg"}, {"force": "lu", "forbid": "cg"}).resolve(None, "solve", (), None)
    assert (resolved.force, set(resolved.forbid)) == ("lu", {"cg"})


def test_options_overlay_key_by_key_and_null_takes_back():
    rules = [
        {"options": {"condition_number": 10, "max_iterations": 5}},
        {"options": {"condition_number": 20, "preconditioner": {"name": "jacobi"}}},
    ]
    options = policy(*rules).resolve(None, "solve", (), None).options
    assert options == Options(
        condition_number=20, max_iterations=5, preconditioner=Preconditioner(name="jacobi")
    )
    rules.append({"options": {"condition_number": None}})
    assert policy(*rules).resolve(None, "solve", (), None).options.condition_number is None


@pytest.mark.parametrize(
    ("match", "problem", "holds"),
    [
        ({}, (None, "solve", (), None), True),
        ({"name": "K_*"}, ("K_x", "solve", (), 5), True),
        ({"name": "K_*"}, ("k_x", "solve", (), 5), False),
        ({"name": "*"}, (None, "solve", (), 5), False),
        ({"request": "solve"}, ("K", "logdet", (), 5), False),
        ({"request": ["solve", "logdet"]}, ("K", "logdet", (), 5), True),
        ({"structure": "low_rank"}, ("K", "solve", ("diagonal", "low_rank"), 5), True),
        ({"structure": ["banded", "dense"]}, ("K", "solve", ("diagonal", "low_rank"), 5), False),
        ({"structure": "dense"}, ("K", "solve", (), 5), False),
        ({"min_n": 5}, ("K", "solve", (), 5), True),
        ({"min_n": 6}, ("K", "solve", (), 5), False),
        ({"max_n": 5}, ("K", "solve", (), 5), True),
        ({"max_n": 4}, ("K", "solve", (), 5), False),
        ({"min_n": 0}, ("K", "solve", (), None), False),
        ({"max_n": 10**9}, ("K", "solve", (), None), False),
        ({"name": "K", "request": "solve"}, ("K", "logdet", (), 5), False),
    ],
)
def test_a_match_holds_when_all_its_conditions_do(match, problem, holds):
    resolved = policy({"match": match, "force": "lu"}).resolve(*problem)
    assert (resolved.force == "lu") is holds


# --- laws

names = st.text(min_size=1, max_size=8)
strategies_of = st.sampled_from(strategy_names())
sets_of = st.lists(st.sampled_from(strategy_names() + PLANNED), max_size=3).map(tuple)
some = lambda values: st.one_of(st.none(), values)  # noqa: E731
optional = lambda **fields: st.fixed_dictionaries({}, optional=fields)  # noqa: E731
match_dicts = optional(
    name=some(names),
    request=st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3),
    structure=st.sampled_from(STRUCTURES),
    min_n=st.integers(0, 50),
    max_n=st.integers(50, 10**6),
)
option_dicts = optional(
    condition_number=some(st.floats(1, 1e300)),
    max_iterations=st.integers(1, 10**6),
    preconditioner=st.sampled_from([None, {"name": "jacobi"}, {"name": "pivoted_cholesky", "rank": 7}]),
)


def _is_a_rule(rule: dict) -> bool:
    demands = rule.get("force") or rule.get("forbid") or rule.get("options")
    return bool(demands) and rule.get("force") not in (rule.get("forbid") or ())


rule_dicts = optional(
    match=match_dicts, force=some(strategies_of), forbid=sets_of.map(list), options=option_dicts
).filter(_is_a_rule)
policy_dicts = optional(
    accuracy=optional(solve_rtol=st.floats(1e-300, 0.5), logdet_rtol=some(st.floats(1e-300, 0.5))),
    memory_limit=some(st.integers(1, 2**60)),
    margin=st.floats(0, 0.99),
    sizes=st.dictionaries(
        st.sampled_from(["K[0]", "n", "1e5", "no", "x y", "K[t][1]"]), st.integers(1, 10**9)
    ),
    rules=st.lists(rule_dicts, max_size=4),
)
policies = policy_dicts.map(lambda data: load_policy(data, layers=False))
problems = st.tuples(
    some(names), st.sampled_from(REQUESTS), st.sampled_from([(), STRUCTURES[:2]]), some(st.integers(0, 99))
)


@given(policies)
def test_a_dumped_policy_loads_back_equal(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("round") / "pins.yaml"
    path.write_text(dump_policy(written), encoding="utf-8")
    loaded = load_policy(path, layers=False)
    assert loaded == written
    assert hash(loaded) == hash(written)


@given(policies, problems)
def test_a_dumped_policy_resolves_alike_over_other_layers(written, problem):
    over = overlay(Policy(margin=0.7, memory_limit=3, accuracy=Accuracy(logdet_rtol=0.9)), written)
    loaded = load_policy(yaml.safe_load(dump_policy(over)), layers=False)
    assert loaded.resolve(*problem) == over.resolve(*problem)


@given(policies, policies, policies)
def test_overlaying_is_associative_with_the_defaults_as_identity(a, b, c):
    assert overlay(overlay(a, b), c) == overlay(a, overlay(b, c))
    assert overlay(Policy(), a) == a == overlay(a, Policy())


@given(policies, problems)
def test_what_is_forced_is_never_forbidden(written, problem):
    resolved = written.resolve(*problem)
    assert resolved.force not in resolved.forbid
    assert (resolved.force is None) == (resolved.force_rule is None)
    assert all(name in rule.forbid for name, rule in resolved.forbid.items())


@given(policies, rule_dicts, problems)
def test_the_last_rule_that_matches_always_gets_its_demand(written, last, problem):
    last = Rule.model_validate({**last, "match": {}})
    resolved = overlay(written, Policy(rules=(last,))).resolve(*problem)
    assert last.force is None or resolved.force == last.force
    assert set(last.forbid) <= set(resolved.forbid)
    assert resolved.options.given() | last.options.given() == resolved.options.given()


# --- the object


def test_a_policy_survives_pickling_with_the_origin_of_its_rules(write):
    loaded = load_policy(write("rules:\n  - match: {name: K}\n    force: cholesky\n"))
    copy = pickle.loads(pickle.dumps(loaded))
    assert copy == loaded
    assert copy.rules[0].origin.line == 2


def test_a_policy_cannot_be_changed():
    with pytest.raises(pydantic.ValidationError):
        Policy().margin = 0.5


def test_the_policy_modules_do_not_need_pytensor():
    # The package itself may import PyTensor: so the modules are run with an empty package around them.
    code = (
        "import sys, types; package = types.ModuleType('autotune'); package.__path__ = ['autotune'];"
        "sys.modules['autotune'] = package; import autotune.policy_files;"
        "print([name for name in ('pytensor', 'scipy', 'sklearn') if name in sys.modules])"
    )
    root = Path(__file__).resolve().parent.parent
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
