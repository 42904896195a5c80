"""Policies: what resolves to what, and the laws of overlaying and dumping."""

import functools
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import pydantic
import pytest
import yaml
from hypothesis import given, reject
from hypothesis import strategies as st

from autotune.policy import Accuracy, Match, Options, Policy, PolicyError, Preconditioner, Rule, yaml_loader
from autotune.policy.conflicts import conflicts, covers, without_dead_demands
from autotune.policy.defaults import DEFAULT
from autotune.policy.files import dump_policy, load_policy, overlay
from autotune.policy.names import EFFORTS, REQUESTS, STRUCTURES, strategy_names
from autotune.policy.types import LEAST_ERROR


def policy(*rules: dict) -> Policy:
    """A policy whose rules come from a layer each, so that a later one may take back an earlier one."""
    layers = [load_policy({"rules": [rule]}, layers=False) for rule in rules]
    return functools.reduce(overlay, layers, Policy())


# --- resolve


def test_a_later_force_wins_and_names_its_rule():
    resolved = policy({"force": "lu"}, {"force": "cg"}).resolve("K", "solve", (), 10)
    assert (resolved.force, resolved.force_rule) == ("cg", Rule(force="cg"))


def test_a_later_force_lifts_the_forbid_of_the_same_strategy_only():
    resolved = policy({"forbid": ["cg", "lu"]}, {"force": "cg"}).resolve(None, "solve", (), None)
    assert resolved.force == "cg"
    assert set(resolved.forbid) == {"lu"}


def test_a_later_forbid_cancels_the_force_of_the_same_strategy_only():
    forced = {"force": "cg"}
    assert policy(forced, {"forbid": "cg"}).resolve(None, "solve", (), None).force is None
    assert policy(forced, {"forbid": "cg"}).resolve(None, "solve", (), None).force_rule is None
    assert policy(forced, {"forbid": "lu"}).resolve(None, "solve", (), None).force == "cg"


def test_an_earlier_force_stands_again_where_a_later_one_is_forbidden():
    rules = {"force": "lu"}, {"force": "cg"}, {"forbid": "cg"}
    assert policy(*rules).resolve(None, "solve", (), None).force == "lu"
    assert policy(*rules, {"forbid": "lu"}).resolve(None, "solve", (), None).force is None


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
    told = policy(*rules).resolve(None, "solve", (), None).option_rules
    assert [told[key].options.condition_number for key in ("max_iterations", "condition_number")] == [10, 20]
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
        ({"structure": ["kronecker", "dense"]}, ("K", "solve", ("diagonal", "low_rank"), 5), False),
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
sets_of = st.lists(st.sampled_from(strategy_names()), max_size=3).map(tuple)
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
    accuracy=optional(solve_rtol=st.floats(1e-300, 0.5), logdet_rtol=some(st.floats(LEAST_ERROR, 0.5))),
    memory_limit=some(st.integers(1, 2**60)),
    effort=st.sampled_from(EFFORTS),
    effort_budget=st.floats(0.001, 86400),
    compile_budget=st.floats(0.001, 86400),
    runtime_dispatch=some(st.booleans()),
    margin=st.floats(0, 0.99),
    sizes=st.dictionaries(
        st.sampled_from(["K[0]", "n", "1e5", "no", "x y", "K[t][1]"]), st.integers(1, 10**9)
    ),
    rules=st.lists(rule_dicts, max_size=4),
)


def _loaded(data: dict) -> Policy:
    """A policy as one file would give it; hypothesis tries others where rules contradict each other."""
    try:
        return load_policy(data, layers=False)
    except PolicyError as error:
        if "never takes effect" not in str(error):
            raise
        reject()


policies = policy_dicts.map(_loaded)
problems = st.tuples(
    some(names), st.sampled_from(REQUESTS), st.sampled_from([(), STRUCTURES[:2]]), some(st.integers(0, 99))
)


@pytest.mark.parametrize("text", ["\x85", "a\x85b", "\u2028", "a\nb", "\r", "\xa0", "\x7f"])
@pytest.mark.parametrize("dump", [yaml_loader.dump, yaml_loader.dump_inline])
def test_text_with_any_line_break_is_dumped_as_it_is(dump, text):
    assert yaml_loader.parse(dump({"name": text}), "here").data == {"name": text}


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
    assert (loaded.margin, loaded.memory_limit) == (over.margin, over.memory_limit)


@given(st.lists(rule_dicts, max_size=6), problems)
def test_rules_of_many_layers_resolve_alike_from_the_one_file_they_are_dumped_to(rules, problem):
    over = policy(*rules)
    before = over.resolve(*problem)
    after = load_policy(yaml.safe_load(dump_policy(over)), layers=False).resolve(*problem)
    assert (after.force, set(after.forbid), after.options) == (
        before.force,
        set(before.forbid),
        before.options,
    )


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


# --- contradictions

GENERAL_TO_SPECIAL = [
    ({}, {}),
    ({}, {"name": "K", "min_n": 5}),
    ({"name": "K"}, {"name": "K"}),
    ({"name": "K_*"}, {"name": "K_big"}),
    ({"name": "K_*"}, {"name": "K_a*"}),
    ({"name": "K*"}, {"name": "K_?"}),
    ({"name": "*"}, {"name": "K"}),
    ({"name": "K[a]"}, {"name": "K[a]"}),
    ({"request": ["solve", "logdet"]}, {"request": "solve"}),
    ({"request": list(REQUESTS)}, {}),
    ({"structure": ["dense", "low_rank"]}, {"structure": "low_rank", "max_n": 3}),
    ({"min_n": 5}, {"min_n": 6}),
    ({"min_n": 0}, {"max_n": 6}),
    ({"max_n": 6}, {"min_n": 2, "max_n": 6}),
]
NOT_GENERAL_TO_SPECIAL = [
    ({"name": "*"}, {}),
    ({"name": "K"}, {"name": "K_*"}),
    ({"name": "K_a*"}, {"name": "K_*"}),
    ({"name": "K_*b]"}, {"name": "K_[ab]"}),
    ({"name": "K_?"}, {"name": "K_*"}),
    ({"request": "solve"}, {}),
    ({"request": "solve"}, {"request": ["solve", "logdet"]}),
    ({"structure": list(STRUCTURES)}, {}),
    ({"min_n": 0}, {}),
    ({"min_n": 5}, {"max_n": 9}),
    ({"max_n": 9}, {"min_n": 2}),
]


@pytest.mark.parametrize(("general", "special"), GENERAL_TO_SPECIAL)
@pytest.mark.parametrize(
    ("earlier", "later"), [({"force": "cg"}, {"forbid": ["lu", "cg"]}), ({"forbid": "cg"}, {"force": "cg"})]
)
def test_a_later_rule_that_always_takes_back_an_earlier_one_is_an_error_naming_both(
    write, general, special, earlier, later
):
    rules = [{"match": special} | earlier, {"match": general} | later]
    path = write("rules:\n" + "".join(f"- {json.dumps(rule)}\n" for rule in rules))
    with pytest.raises(PolicyError) as failure:
        load_policy(path)
    message = str(failure.value)
    assert message.startswith(f"{path}:3: key 'rules[1].")
    assert f"{path}:2 " in message
    assert "'cg'" in message


@pytest.mark.parametrize(("general", "special"), NOT_GENERAL_TO_SPECIAL)
def test_an_exception_to_an_earlier_rule_is_no_error(general, special):
    rules = [{"match": special, "force": "cg"}, {"match": general, "forbid": "cg"}]
    assert len(load_policy({"rules": rules}, layers=False).rules) == 2


@pytest.mark.parametrize(
    "rules",
    [
        [{"match": {}, "forbid": "cg"}, {"match": {"name": "K"}, "force": "cg"}],
        [{"match": {}, "force": "cg"}, {"match": {"name": "K"}, "forbid": "cg"}],
        [{"force": "cg"}, {"force": "lu"}],
        [{"force": "cg"}, {"forbid": "lu"}],
        [{"forbid": "cg"}, {"forbid": "cg"}],
    ],
)
def test_rules_of_which_the_later_one_wins_in_part_or_agrees_are_no_error(rules):
    assert len(load_policy({"rules": rules}, layers=False).rules) == 2


def test_layers_may_take_back_what_lower_ones_demand():
    lower, upper = load_policy({"rules": [{"force": "cg"}]}), load_policy({"rules": [{"forbid": "cg"}]})
    assert overlay(lower, upper).resolve("K", "solve", (), 3).force is None


match_objects = match_dicts.map(Match.model_validate)


@given(match_objects, match_objects, problems)
def test_what_covers_a_match_holds_wherever_that_does(general, special, problem):
    if covers(general, special) and special.holds(*problem):
        assert general.holds(*problem)


globs = st.text(st.sampled_from("ab*?[]!"), min_size=1, max_size=5)


@given(globs, globs, st.text(st.sampled_from("ab*?[]!"), max_size=6))
def test_a_pattern_covers_another_only_if_it_matches_each_of_its_names(general, special, name):
    if covers(Match(name=general), Match(name=special)) and fnmatchcase(name, special):
        assert fnmatchcase(name, general)


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        (
            [{"force": "cg", "forbid": "lu"}, {"force": "lu", "forbid": "cg"}],
            [None, {"force": "lu", "forbid": "cg"}],
        ),
        (
            [{"force": "cg", "options": {"max_iterations": 3}}, {"forbid": "cg"}, {"forbid": "cg"}],
            [{"options": {"max_iterations": 3}}, {"forbid": "cg"}, {"forbid": "cg"}],
        ),
        ([{"forbid": ["cg", "lu"]}, {"force": "lu"}], [{"forbid": "cg"}, {"force": "lu"}]),
        ([{"force": "cg"}, {"match": {"name": "K"}, "forbid": "cg"}],) * 2,
    ],
)
def test_only_demands_that_are_always_taken_back_are_left_out(rules, left):
    expected = [None if rule is None else Rule.model_validate(rule) for rule in left]
    assert without_dead_demands(policy(*rules).rules) == expected


@given(st.lists(rule_dicts, max_size=6))
def test_without_dead_demands_nothing_contradicts(rules):
    left = [rule for rule in without_dead_demands(policy(*rules).rules) if rule is not None]
    assert list(conflicts(left)) == []


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
        "sys.modules['autotune'] = package; import autotune.policy.files;"
        "print([name for name in ('pytensor', 'scipy', 'sklearn') if name in sys.modules])"
    )
    root = Path(__file__).resolve().parent.parent
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_defaults_without_pydantic_are_those_of_the_model():
    policy, asked = Policy(), ("K", "solve", ("dense",), 5)
    for name in vars(DEFAULT):
        mine, its = getattr(DEFAULT, name), getattr(policy, name)
        assert (vars(mine) if name == "accuracy" else mine) == (dict(its) if name == "accuracy" else its)
    assert policy.given() == {}
    assert set(Policy.model_fields) - set(vars(DEFAULT)) == {"version"}
    mine, its = DEFAULT.resolve(*asked), policy.resolve(*asked)
    assert all(getattr(mine.options, name) is None for name in Options.model_fields)
    assert replace(mine, options=its.options) == its
