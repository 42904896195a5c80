"""Policy files: which load, how they overlay, and what the messages of the others say."""

import os
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

import autotune
from autotune.policy import Accuracy, Match, Options, Policy, PolicyError, Preconditioner, Rule
from autotune.policy.files import layered, layers_of, load_policy
from autotune.policy.names import PRECONDITIONERS, REQUESTS, STRUCTURES, strategy_names

EXAMPLE = """\
version: 1
accuracy: {solve_rtol: 1.0e-10, logdet_rtol: null}
memory_limit: 8GiB            # default: a share of the RAM that is free
margin: 0.1
sizes: {"K[0]": 5000}
rules:                        # later rules win
  - match: {name: "K_*", request: [solve, logdet], structure: low_rank, min_n: 500}
    force: woodbury
  - match: {name: "K_big"}
    options: {condition_number: 10, preconditioner: {name: pivoted_cholesky, rank: 50}}
  - match: {}
    forbid: [lanczos]
"""


def policy(*rules: dict) -> Policy:
    return load_policy({"rules": list(rules)}, layers=False)


# --- files that load


def test_the_documented_example_loads_as_it_reads(write):
    loaded = load_policy(write(EXAMPLE))
    assert loaded.accuracy == Accuracy(solve_rtol=1e-10)
    assert loaded.memory_limit == 8 * 2**30
    assert loaded.sizes == {"K[0]": 5000}
    assert loaded.rules == (
        Rule(
            match=Match(name="K_*", request=("solve", "logdet"), structure=("low_rank",), min_n=500),
            force="woodbury",
        ),
        Rule(
            match=Match(name="K_big"),
            options=Options(
                condition_number=10, preconditioner=Preconditioner(name="pivoted_cholesky", rank=50)
            ),
        ),
        Rule(forbid=("lanczos",)),
    )
    assert [rule.origin.line for rule in loaded.rules] == [7, 9, 11]
    assert str(loaded.rules[0].origin).endswith("some.yaml:7")


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n", "{}", "version: 1", "rules:\nsizes:\naccuracy:\n"]
)
def test_empty_files_and_empty_sections_are_the_defaults(write, text):
    assert load_policy(write(text)) == Policy()


def test_the_shipped_default_states_every_key_with_its_default():
    text = (files("configs") / "default.yaml").read_text()
    assert load_policy(yaml.safe_load(text), layers=False) == Policy()
    assert set(yaml.safe_load(text)) == set(Policy.model_fields)
    assert set(yaml.safe_load(text)["accuracy"]) == set(Accuracy.model_fields)
    for section in (Rule, Match, Options, Preconditioner):
        assert all(f"{key}" in text for key in section.model_fields)
    for name in (*strategy_names(), *REQUESTS, *STRUCTURES, *PRECONDITIONERS):
        assert name in text


def test_exact_only_forbids_every_inexact_strategy():
    loaded = load_policy(str(files("configs") / "exact-only.yaml"), layers=False)
    assert set(loaded.resolve("K", "solve", (), None).forbid) == {"cg", "lanczos"}


@pytest.mark.parametrize("number", ["1e-8", "1.0e-8", "1E-8", "1.e-8", "0.00000001", ".1e-7", "+1e-8"])
def test_every_way_of_writing_a_float_is_a_number(write, number):
    assert load_policy(write(f"accuracy: {{solve_rtol: {number}}}")).accuracy.solve_rtol == 1e-8


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("8GiB", 8 * 2**30),
        ("512MB", 512 * 10**6),
        ("1.5 GiB", 3 * 2**29),
        ("2 tib", 2**41),
        ("10kB", 10_000),
        ("64B", 64),
        ("1000", 1000),
        ("2e9", 2 * 10**9),
        ("null", None),
    ],
)
def test_memory_is_bytes_or_a_size_with_a_unit(write, written, expected):
    assert load_policy(write(f"memory_limit: {written}")).memory_limit == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [("10", 10), ("0.5", 0.5), ("10s", 10), ("'1.5 min'", 90), ("500ms", 0.5), ("1h", 3600), ("1e-3", 1e-3)],
)
def test_a_time_is_seconds_or_has_a_unit(write, written, expected):
    assert load_policy(write(f"effort_budget: {written}")).effort_budget == expected


def test_a_byte_order_mark_is_ignored(write):
    assert load_policy(write("\ufeffmargin: 0.2")).margin == 0.2


@pytest.mark.parametrize(
    "name", ["no", "on", "NO", "1:30", "017", "1_0x", "2020-01-01", "=", "0o17", "1.2.3"]
)
def test_text_that_old_yaml_reads_as_something_else_is_text(write, name):
    loaded = load_policy(write(f"sizes: {{{name}: 1_000}}\nrules:\n- {{match: {{name: {name}}}, force: lu}}"))
    assert loaded.sizes == {name: 1000}
    assert loaded.rules[0].match.name == name


def test_numpy_integers_are_integers():
    import numpy as np

    assert load_policy({"sizes": {"K[0]": np.int64(7)}}).sizes == {"K[0]": 7}


# --- files that do not: the messages of each are in test_malformed_policies.py


def test_every_mistake_is_reported_in_the_order_of_the_lines(write):
    path = write("margin: 3\nmemory: 1GiB\nrules:\n- force: lu\n- force: ly\n")
    with pytest.raises(PolicyError) as failure:
        load_policy(path)
    places = [line.split(": key")[0] for line in str(failure.value).splitlines()]
    assert places == [f"{path}:1", f"{path}:2", f"{path}:5"]


def test_an_unsupported_version_hides_what_only_the_other_version_knows(write):
    with pytest.raises(PolicyError, match="found 7; supported: 1") as failure:
        load_policy(write("version: 7\nnew_key: 1"))
    assert "new_key" not in str(failure.value)


def test_a_dict_gets_the_same_messages_without_a_line():
    with pytest.raises(PolicyError) as failure:
        load_policy({"rules": [{"force": "lu"}, {"forse": "cg"}]})
    assert str(failure.value).startswith("<dict>: key 'rules[1].forse': found an unknown key; valid: match,")
    with pytest.raises(PolicyError, match=r"<dict>: key '\[1\]': found an unknown key; valid: version"):
        load_policy({1: 2})


def test_a_rule_of_a_dict_knows_its_place():
    assert str(policy({"force": "lu"}).rules[0].origin) == "<dict> rules[0]"
    assert str(Rule(force="lu").origin) == "<python>"


@pytest.mark.parametrize("source", [3, ["a"], b"x"])
def test_a_source_of_another_type_is_refused(source):
    with pytest.raises(PolicyError, match="a path, a dict or a Policy"):
        load_policy(source)


def test_a_named_file_must_exist(write, monkeypatch):
    directory = write("").parent
    with pytest.raises(PolicyError, match=r"missing\.yaml: No such file"):
        load_policy(directory / "missing.yaml")
    with pytest.raises(PolicyError, match="Is a directory"):
        load_policy(directory)
    with pytest.raises(PolicyError, match="found an empty path; None is for no policy"):
        autotune.mode("")
    monkeypatch.setenv("AUTOTUNE_POLICY", "missing.yaml")
    with pytest.raises(PolicyError, match="named by AUTOTUNE_POLICY"):
        load_policy()


def test_a_policy_error_is_what_pytensor_lets_through():
    assert issubclass(PolicyError, AssertionError)
    assert issubclass(PolicyError, ValueError)


# --- layers


def test_layers_overlay_key_by_key_and_rules_append(write, monkeypatch):
    config = Path(os.environ["XDG_CONFIG_HOME"])
    if not sys.platform.startswith("linux"):
        monkeypatch.setattr("platformdirs.user_config_dir", lambda *_, **__: str(config / "autotune"))
    user = config / "autotune" / "autotune.yaml"
    user.parent.mkdir(parents=True)
    user.write_text("margin: 0.01\nmemory_limit: 1GB\nsizes: {a: 1, b: 1}\nrules: [{force: lu}]")
    write("margin: 0.02\naccuracy: {logdet_rtol: 0.5}\nrules: [{force: cg}]", "autotune.yaml")
    monkeypatch.setenv(
        "AUTOTUNE_POLICY", str(write("margin: 0.03\nsizes: {b: 2}\nrules: [{force: keep}]", "env.yaml"))
    )
    assert load_policy().margin == 0.03
    enabled = {"margin": 0.04, "accuracy": {"solve_rtol": 0.25}, "rules": [{"force": "woodbury"}]}
    argument = Policy(margin=0.05, rules=(Rule(force="cholesky"),))
    final = layered(enabled, argument)
    assert final.margin == 0.05
    assert final.memory_limit == 10**9
    assert final.accuracy == Accuracy(solve_rtol=0.25, logdet_rtol=0.5)
    assert final.sizes == {"a": 1, "b": 2}
    assert [rule.force for rule in final.rules] == ["lu", "cg", "keep", "woodbury", "cholesky"]
    assert str(final.rules[1].origin) == "autotune.yaml:3"
    assert load_policy({}, layers=False) == Policy()


def test_a_policy_object_overlays_only_what_it_sets():
    lower = {"margin": 0.3, "accuracy": {"solve_rtol": 0.1}, "memory_limit": 5}
    assert layered(lower, Policy(accuracy=Accuracy(logdet_rtol=0.2))) == Policy(
        margin=0.3, accuracy=Accuracy(solve_rtol=0.1, logdet_rtol=0.2), memory_limit=5
    )
    assert layered(lower, Policy(memory_limit=None)).memory_limit is None


def test_a_file_that_is_given_and_in_force_counts_once(write):
    path = write("margin: 0.2\nrules: [{force: lu}]", "autotune.yaml")
    assert [layer.kind for layer in layers_of()] == ["project file"]
    assert [layer.kind for layer in layers_of(path)] == ["argument"]
    assert load_policy(path) == load_policy()


def test_an_edit_is_noticed_at_once(write):
    assert load_policy(write("margin: 0.1")).margin == 0.1
    assert load_policy(write("margin: 0.2")).margin == 0.2
