"""The commands `check`, `policy show` and `policy schema`, and what they print."""

import json
import re
from pathlib import Path

import pytest
import typer
import yaml
from helpers import diagonal_plus_low_rank
from typer.testing import CliRunner

from autotune.choose import choose
from autotune.cli.policy import check, policies
from autotune.policy import Accuracy, Match, Options, Policy, Preconditioner, Rule
from autotune.policy.checking import report
from autotune.policy.effective import entries
from autotune.policy.files import layers_of, load_policy
from autotune.policy.messages import meaning_and_valid
from autotune.policy.schema import json_schema, reference_table, schema_text
from autotune.problem import Problem, Request, dense
from cost_models import generic_profile

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)
app.add_typer(policies, name="policy")
app.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})(check)

SCRIPT = """
import sys
import pytensor, pytensor.tensor as pt
from pytensor.compile.mode import Mode

python = Mode(linker="py", optimizer="fast_run").excluding("inplace", "fusion")
X, y, A = pt.matrix("X", shape=(2000, 10)), pt.vector("y", shape=(2000,)), pt.matrix("A", shape=(300, 300))
K = X @ X.T + 0.1 * pt.eye(2000)
K.name = "K_x"
pytensor.function([X, y], y @ pt.linalg.inv(K) @ y + pt.linalg.slogdet(K)[1], mode=python)
for _ in range(2):
    pytensor.function([A], pt.linalg.inv(A), mode=python)
if "--broken" in sys.argv:
    open("/nonexistent/file")
"""
RULES = """\
margin: 0.2
rules:
- {match: {name: "K_*", request: logdet}, force: woodbury}
- {match: {structure: low_rank}, force: cholesky, options: {condition_number: 3}}
- {match: {name: K_y}, force: lu}
- {match: {name: A, structure: low_rank}, forbid: cg}
- {forbid: [cg]}
"""


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def script(write):
    return write(SCRIPT, "model.py")


# --- which rule hits what

K = Problem((Request("solve"), Request("logdet")), diagonal_plus_low_rank(2000, 10), name="K_x")
A = Problem((Request("inverse", form="inverse"),), dense(300), name="A")
UNNAMED = Problem((Request("solve"),), dense(None))


def hits(*rules, problems=(K, A, UNNAMED)):
    """For each rule its hits as (name, requests, effects), or the reason why there are none."""
    policy = load_policy({"rules": list(rules)}, layers=False)
    decisions = [choose(problem, policy, generic_profile()) for problem in problems]
    return [
        [(hit.problem.name, hit.requests, hit.effects) for hit in rule.hits] or rule.miss
        for rule in report(policy, [*decisions, *decisions])
    ]


def test_a_hit_names_problem_and_requests_and_says_what_the_rule_does():
    rule = {"match": {"name": "K_*", "request": "logdet"}, "force": "woodbury", "forbid": "lu"}
    assert hits(rule) == [[("K_x", ("logdet",), ("forces woodbury", "forbids lu"))]]


def test_a_rule_for_everything_hits_everything_once():
    (found,) = hits({"forbid": "cg"})
    assert [(name, requests) for name, requests, _ in found] == [
        ("K_x", ("solve", "logdet")),
        ("A", ("inverse",)),
        (None, ("solve",)),
    ]


def test_an_overruled_demand_names_the_rule_that_overrules_it_and_on_which_requests():
    earlier, later = (
        {"match": {"name": "K_x"}, "force": "lu"},
        {"match": {"request": "solve"}, "force": "keep"},
    )
    assert hits(earlier, later, problems=[K])[0] == [
        ("K_x", ("solve",), ("forces lu (overruled by <dict> rules[1])",)),
        ("K_x", ("logdet",), ("forces lu",)),
    ]


@pytest.mark.parametrize(
    ("earlier", "later", "effect"),
    [
        ({"force": "lu"}, {"forbid": "lu"}, "forces lu (overruled by <dict> rules[1])"),
        ({"forbid": "lu"}, {"force": "lu"}, "forbids lu (overruled by <dict> rules[1])"),
        ({"force": "lu"}, {"force": "lu", "options": {"max_iterations": 3}}, "forces lu"),
        ({"forbid": "lu"}, {"forbid": "lu"}, "forbids lu"),
        (
            {"options": {"condition_number": 3}},
            {"options": {"condition_number": 4}},
            "sets condition_number (overruled by <dict> rules[1])",
        ),
        ({"options": {"condition_number": 3}}, {"options": {"max_iterations": 4}}, "sets condition_number"),
    ],
)
def test_the_effect_of_a_rule_is_what_resolving_makes_of_it(earlier, later, effect):
    found = hits(earlier, later | {"match": {"name": "A"}}, problems=[A])
    assert found[0][0][2] == (effect,)


@pytest.mark.parametrize(
    ("match", "reason"),
    [
        ({"name": "K_y"}, "name K_y: there is only K_x, A, unknown. Did you mean 'K_x'?"),
        (
            {"request": ["factor", "determinant"]},
            "request factor or determinant: there is only solve, logdet, inv",
        ),
        ({"structure": "kronecker"}, "structure kronecker: there is only diagonal + low_rank, dense."),
        ({"min_n": 5000}, "min_n 5000: there is only 2000, 300, unknown."),
        ({"name": "A", "structure": "low_rank"}, "No request meets all of its conditions together."),
    ],
)
def test_a_rule_without_a_hit_says_which_condition_nothing_meets(match, reason):
    (miss,) = hits({"match": match, "forbid": "cg"})
    assert miss.startswith(reason)


def test_the_seen_values_that_are_listed_are_few():
    many = [Problem((Request("solve"),), dense(10), name=f"A{i}") for i in range(50)]
    (miss,) = hits({"match": {"name": "none"}, "forbid": "cg"}, problems=many)
    assert miss.count(",") == 8


# --- check


def test_check_of_a_script_shows_the_hits_of_every_rule_and_which_have_none(script, write):
    write(RULES, "p.yaml")
    result = run("check", "p.yaml", script)
    shown = " ".join(result.stdout.split())
    assert result.exit_code == 0, result.output
    assert "5 rules, 2 without a hit" in shown
    assert "K_x logdet diagonal + low_rank 2000 forces woodbury (overruled by" in shown
    assert "K_x logdet, solve diagonal + low_rank 2000 forces cholesky, sets condition_number" in shown
    assert "p.yaml:5 match {name: K_y} force: lu hits nothing. name K_y: there is only K_x, A." in shown
    assert shown.count("A inverse dense 300 forbids cg") == 1


def test_check_shows_rules_of_other_layers_too_and_a_given_project_file_once(script, write):
    path = write("rules: [{match: {name: A}, force: lu}]", "autotune.yaml")
    assert "1 rule, none without a hit" in run("check", path, script).stdout
    other = write("rules: [{forbid: cg}]", "p.yaml")
    shown = run("check", other, script).stdout
    assert "2 rules" in shown
    assert "autotune.yaml:1" in shown


def test_check_of_a_script_that_fails_shows_its_traceback_and_the_hits_so_far(script, write):
    result = run("check", write(RULES, "p.yaml"), script, "--broken")
    assert result.exit_code == 1
    assert "No such file or directory: '/nonexistent/file'" in result.stderr
    assert "5 rules, 2 without a hit" in result.stdout


def test_check_reports_a_force_that_cannot_be_met_in_one_line(script, write):
    path = write("rules:\n  - {match: {name: A}, force: woodbury}\n", "p.yaml")
    result = run("check", path, script)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"autotune: {path}:2: the policy forces 'woodbury'")
    assert len(result.stderr.splitlines()) == 1


def test_check_of_no_script_prints_the_values_and_of_a_missing_one_says_so(write):
    path = write("margin: 0.25", "p.yaml")
    assert run("check", path).stdout.startswith(f"{path}: ok\n\nversion: 1\n")
    assert "margin: 0.25" in run("check", path).stdout
    missing = run("check", path, "nothing.py")
    assert missing.exit_code == 1
    assert "nothing.py is not a file" in missing.stderr


# --- policy show


def test_show_names_the_origin_of_every_value_and_rule(write, monkeypatch):
    write("margin: 0.3\nmemory_limit: 1GiB\nrules:\n- forbid: [lu]", "autotune.yaml")
    monkeypatch.setenv("AUTOTUNE_POLICY", str(write("\naccuracy:\n  logdet_rtol: 0.5", "env.yaml")))
    path = write("margin: 0.2\nsizes:\n  'K[0]': 50\nrules:\n- {match: {name: K}, force: lu}", "p.yaml")
    shown = [line.split() for line in run("policy", "show", path.name).stdout.splitlines()]
    assert ["margin", "0.2", "p.yaml:1", "(argument)"] in shown
    assert ["sizes.K[0]", "50", "p.yaml:3", "(argument)"] in shown
    assert ["memory_limit", "1073741824", "autotune.yaml:2", "(project", "file)"] in shown
    assert ["accuracy.solve_rtol", "1.0e-10", "default"] in shown
    assert ["0", "{}", "forbid:", "[lu]", "autotune.yaml:4", "(project", "file)"] in shown
    assert ["1", "{name:", "K}", "force:", "lu", "p.yaml:5", "(argument)"] in shown
    origins = {entry.path: entry.origin for entry in entries(layers_of())}
    assert origins["accuracy", "logdet_rtol"].endswith("env.yaml:3 (AUTOTUNE_POLICY)")


def test_show_as_yaml_reads_back_as_what_is_in_force(write):
    write("margin: 0.3\nrules:\n- {force: cg, options: {max_iterations: 9}}", "autotune.yaml")
    path = write(
        "sizes: {'K[0]': 50, '1e5': 2, 'a\\nb': 3}\nrules: [{forbid: cg}, {match: {name: K}, force: lu}]"
    )
    printed = run("policy", "show", path, "--yaml").stdout
    again = write(printed, "again.yaml")
    loaded, expected = load_policy(again, layers=False), load_policy(path)
    assert loaded.sizes == expected.sizes
    assert loaded.margin == 0.3
    for name in ("K", "A"):
        ours, theirs = (p.resolve(name, "solve", (), 5) for p in (loaded, expected))
        assert (ours.force, set(ours.forbid), ours.options) == (
            theirs.force,
            set(theirs.forbid),
            theirs.options,
        )
    assert "margin: 0.3  # autotune.yaml:1 (project file)" in printed


def test_show_without_any_file_shows_the_defaults():
    assert all(entry.origin == "default" for entry in entries(layers_of()))
    assert load_policy(yaml.safe_load(run("policy", "show", "--yaml").stdout)) == Policy()


# --- schema and guide


def test_the_shipped_schema_is_the_one_of_the_policy():
    shipped = (ROOT / "configs" / "policy.schema.json").read_text()
    assert shipped == schema_text(), "Renew it: autotune policy schema > configs/policy.schema.json"
    assert run("policy", "schema").stdout == shipped


def test_the_reference_in_the_guide_is_that_of_the_schema():
    table = run("policy", "schema", "--table").stdout
    assert table == reference_table(json_schema())
    assert f"\n\n{table}\n" in GUIDE, "Renew it with what `autotune policy schema --table` prints."


@pytest.mark.parametrize("section", [Policy, Accuracy, Rule, Match, Options, Preconditioner])
def test_every_key_says_what_it_means_and_what_is_valid_and_stands_in_the_reference(section):
    for name, field in section.model_fields.items():
        meaning, valid = meaning_and_valid(field.description)
        assert meaning.endswith(".")
        assert valid
        assert re.search(rf"^\| `(.*\.)?{name}` \|", reference_table(), re.MULTILINE)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_policy_names_its_schema_for_editors(path):
    first = path.read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=policy.schema.json"
    assert (path.parent / "policy.schema.json").exists()


def test_the_schema_allows_both_ways_of_writing_a_list_a_size_and_an_empty_section():
    keys = json_schema()["properties"]
    assert {option.get("type") for option in keys["memory_limit"]["anyOf"]} == {"integer", "string", "null"}
    assert {option.get("type") for option in keys["rules"]["anyOf"]} == {"array", "null"}
    match = json_schema()["$defs"]["Match"]["properties"]
    assert {option.get("type") for option in match["request"]["anyOf"]} == {"string", "array", "null"}
    assert all(section["additionalProperties"] is False for section in json_schema()["$defs"].values())
    assert json.loads(schema_text()) == json_schema()


EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.splitlines()[0][:40])
def test_every_example_of_the_guide_loads(example, write):
    assert load_policy(write(example), layers=False) != Policy()


def test_the_guide_shows_a_contradiction_with_its_message(write):
    (bad,) = re.findall(r"^```yaml-wrong\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    (message,) = re.findall(r"^```text-wrong\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    write(bad, "wrong.yaml")
    assert run("check", "wrong.yaml").stderr == message


def test_links_of_the_guide_lead_somewhere():
    targets = re.findall(r"\]\(([^)#:]+)\)", GUIDE)
    assert targets
    assert [target for target in targets if not (ROOT / "docs" / target).exists()] == []
