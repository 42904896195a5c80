"""Policy files: which load, how they overlay, and what the messages of the others say."""

import os
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from autotune.policy import (
    PRECONDITIONERS,
    REQUESTS,
    STRUCTURES,
    Accuracy,
    Match,
    Options,
    Policy,
    PolicyError,
    Preconditioner,
    Rule,
    strategy_names,
)
from autotune.policy_files import layered, load_policy

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


def test_a_byte_order_mark_is_ignored(write):
    assert load_policy(write("\ufeffmargin: 0.2")).margin == 0.2


def test_numpy_integers_are_integers():
    import numpy as np

    assert load_policy({"sizes": {"K[0]": np.int64(7)}}).sizes == {"K[0]": 7}


# --- files that do not

BAD = [
    # (text, line, key, words of the message)
    ("margn: 0.1", 1, "margn", ["unknown key", "memory_limit", "Did you mean 'margin'?"]),
    ("version: 1\naccuracy:\n  solve_tol: 1e-8", 3, "accuracy.solve_tol", ["Did you mean 'solve_rtol'?"]),
    ("rules:\n- match: {nam: K}\n  force: lu", 2, "rules[0].match.nam", ["min_n", "Did you mean 'name'?"]),
    ("rules:\n- force: lu\n- forse: lu", 3, "rules[1].forse", ["forbid", "Did you mean 'force'?"]),
    ("rules:\n- options: {cond: 3}", 2, "rules[0].options.cond", ["condition_number, max_iterations"]),
    (
        "rules:\n- options:\n    preconditioner:\n      name: jacobi\n      rnk: 3",
        5,
        "rules[0].options.preconditioner.rnk",
        ["name, rank", "Did you mean 'rank'?"],
    ),
    ("rules:\n- force: wodbury", 2, "rules[0].force", ["'wodbury'", "keep, cholesky", "mean 'woodbury'?"]),
    ("rules:\n- force: lanczos", 2, "rules[0].force", ["'lanczos'", "planned", "keep, cholesky"]),
    ("rules:\n- forbid: lanczoz", 2, "rules[0].forbid", ["'lanczoz'", "Did you mean 'lanczos'?"]),
    ("rules:\n- forbid:\n  - cg\n  - lux", 4, "rules[0].forbid[1]", ["'lux'", "Did you mean 'lu'?"]),
    ("rules:\n- force: 3", 2, "rules[0].force", ["found 3", "the name of a strategy"]),
    ("rules:\n- match: {request: slove}\n  force: lu", 2, "rules[0].match.request", ["'slove'", "'solve'?"]),
    ("rules:\n- match: {request: []}\n  force: lu", 2, "rules[0].match.request", ["one or a list of solve"]),
    ("rules:\n- match: {structure: x}\n  force: lu", 2, "rules[0].match.structure", ["dense, diagonal"]),
    ("rules:\n- match: {min_n: 2.5}\n  force: lu", 2, "rules[0].match.min_n", ["found 2.5", "0 or more"]),
    ("rules:\n- match: {min_n: 9, max_n: 3}\n  force: lu", 2, "rules[0].match", ["min_n 9 > max_n 3"]),
    ("rules:\n- match: K\n  force: lu", 2, "rules[0].match", ["found 'K'", "a mapping"]),
    ("rules:\n- match: {}", 2, "rules[0]", ["without effect", "force, forbid, options"]),
    ("rules:\n- {force: cg, forbid: cg}", 2, "rules[0]", ["both forced and forbidden"]),
    ("rules:\n- cg", 2, "rules[0]", ["found 'cg'", "match, force, forbid, options"]),
    ("rules: {force: cg}", 1, "rules", ["found a mapping", "a list of rules"]),
    ("rules:\n- options: {condition_number: 0.5}", 2, "rules[0].options.condition_number", ["1 or more"]),
    ("rules:\n- options: {max_iterations: true}", 2, "rules[0].options.max_iterations", ["found true"]),
    (
        "rules:\n- options: {preconditioner: {rank: 5}}",
        2,
        "rules[0].options.preconditioner.name",
        ["no value", "none, jacobi"],
    ),
    (
        "rules:\n- options: {preconditioner: {name: jacobi, rank: 5}}",
        2,
        "rules[0].options.preconditioner",
        ["rank 5", "only 'pivoted_cholesky'"],
    ),
    ("version: 2", 1, "version", ["found 2", "supported: 1"]),
    ("\nversion: '1'", 2, "version", ["found '1'", "supported: 1"]),
    ("version: true", 1, "version", ["found true", "supported: 1"]),
    ("margin: 1", 1, "margin", ["found 1", "less than 1"]),
    ("margin: a lot", 1, "margin", ["found 'a lot'", "a number"]),
    ("margin:", 1, "margin", ["found null", "a number"]),
    ("margin: .nan", 1, "margin", ["found nan", "a number"]),
    ("margin: true", 1, "margin", ["found true", "a number"]),
    ("accuracy: {solve_rtol: 0}", 1, "accuracy.solve_rtol", ["found 0", "between 0 and 1"]),
    ("accuracy: {logdet_rtol: 1e-8x}", 1, "accuracy.logdet_rtol", ["'1e-8x'", "between 0 and 1, or null"]),
    ("accuracy: [1]", 1, "accuracy", ["found a list", "solve_rtol, logdet_rtol"]),
    ("memory_limit: 8G", 1, "memory_limit", ["found '8G'", "8GiB"]),
    ("memory_limit: -1", 1, "memory_limit", ["found -1", "8GiB"]),
    ("memory_limit: 0.2B", 1, "memory_limit", ["found '0.2B'", "8GiB"]),
    ("sizes: {n: 0}", 1, "sizes.n", ["found 0", "1 or more"]),
    ("sizes:\n  n: many", 2, "sizes.n", ["found 'many'", "'K[0]'"]),
    ("sizes: {'K[': 3}", 1, "sizes", ["'K['", "'K[0]'"]),
    ("margin: 0.1\nmargin: 0.2", 2, "margin", ["found twice, first on line 1"]),
    ("rules:\n- force: lu\n  force: cg", 3, "force", ["found twice, first on line 2"]),
]


@pytest.mark.parametrize(("text", "line", "key", "words"), BAD)
def test_a_message_names_file_line_key_and_what_is_valid(write, text, line, key, words):
    path = write(text)
    with pytest.raises(PolicyError) as failure:
        load_policy(path)
    message = str(failure.value)
    assert message.startswith(f"{path}:{line}: key '{key}': ")
    assert message.endswith((".", "?"))
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("- margin", 1, ["found a list", "a mapping"]),
        ("\nmargin", 2, ["found 'margin'", "a mapping"]),
        ("accuracy:\n\tsolve_rtol: 1", 2, ["found a tab", "spaces"]),
        ("sizes: {n: 3", 1, ["expected"]),
        ("margin: 'x", 1, ["quotes"]),
        ("rules:\n- force: lu\n match: {}", 3, ["indentation"]),
        ("sizes:\n  5: 3", 2, ["the key '5'", "text"]),
        ("sizes: {[a]: 3}", 1, ["a list or mapping", "text"]),
        ("margin: &m 0.2\nsizes: {n: *m}", 2, ["alias"]),
        ("margin: !!python/name:os.system", 1, ["tag"]),
        ("rules: !mine []", 1, ["tag"]),
        ("margin: 0.1\n---\nmargin: 0.2", 2, ["another document"]),
        ("margin: 2020-13-45", 1, ["2020-13-45", "quote"]),
        ("\nmargin: \x07", 2, ["found the character"]),
    ],
)
def test_text_that_is_not_a_mapping_is_refused_with_its_line(write, text, line, words):
    path = write(text)
    with pytest.raises(PolicyError) as failure:
        load_policy(path)
    message = str(failure.value)
    assert message.startswith(f"{path}:{line}: ") or f"{path}:{line}:" in message
    assert all(word in message for word in words), message


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
    monkeypatch.setenv("AUTOTUNE_POLICY", "missing.yaml")
    with pytest.raises(PolicyError, match="named by AUTOTUNE_POLICY"):
        load_policy()


def test_bytes_that_are_not_utf8_are_refused(write):
    path = write("")
    path.write_bytes(b"margin: \xff")
    with pytest.raises(PolicyError, match="not UTF-8"):
        load_policy(path)


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


def test_an_edit_is_noticed_at_once(write):
    assert load_policy(write("margin: 0.1")).margin == 0.1
    assert load_policy(write("margin: 0.2")).margin == 0.2
