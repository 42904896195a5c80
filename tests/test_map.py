"""The map of choices says what `choose` says, and the picture shows it."""

import re
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from autotune.choose import choose
from autotune.cli import app
from autotune.policy import Policy
from autotune.policy.files import load_policy
from autotune.problem import REQUEST_KINDS
from autotune.report.map.choice_map import FORMS, PLANES, STRUCTURES, Question, choice_map
from cost_models import generic_profile

PROFILE = generic_profile()
GENEROUS = Policy(memory_limit="1TB")
TINY = ("--points", 4, "--largest", 400, "--profile", "generic")


def tiny(policy=GENEROUS, **question):
    return choice_map(Question(**question), policy, PROFILE, largest=2000, points=5)


def run(*words):
    return CliRunner().invoke(app, ["map", *map(str, words)])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_map_holds_the_decision_of_each_of_its_points(structure, gradient):
    chart = tiny(structure=structure, gradient=gradient)
    for i, other in enumerate(chart.others):
        for j, n in enumerate(chart.n):
            decision = choose(chart.question.problem(int(n), int(other)), GENEROUS, PROFILE)
            assert chart.chosen[i, j] == decision.chosen
            keep, ours = decision.candidate("keep").seconds, decision.winner.seconds
            assert chart.gain[i, j] == pytest.approx(keep / ours)


def test_low_rank_has_a_crossover_and_gains_most_where_the_rank_is_least():
    chart = tiny()
    assert chart.chosen[0, -1] == "woodbury"
    assert chart.chosen[-1, 0] != "woodbury"
    assert (np.diff(chart.gain[:, -1]) <= 0).all()


def test_the_policy_counts():
    chart = tiny(load_policy({"rules": [{"forbid": "woodbury"}]}, layers=False))
    assert "woodbury" not in chart.chosen
    little = tiny(Policy(memory_limit="1MB"), structure="dense", requests=("inverse",), plane="batch")
    assert set(little.chosen[:, -1]) == {"keep"}


def test_every_request_and_every_plane_is_asked_as_named():
    assert set(FORMS) <= set(REQUEST_KINDS)
    for plane, size in zip(PLANES, (7, 8, 9), strict=True):
        problem = Question(plane=plane, requests=("solve",)).problem(50, size)
        sizes, columns = problem.sizes, problem.requests[0].columns
        found = {"rank": sizes.get("rank"), "columns": columns, "batch": sizes["batch"]}
        assert found == {"rank": 10, "columns": 1, "batch": 1} | {plane: size}


@pytest.mark.parametrize(
    ("structure", "requests", "axis", "held"),
    [
        ("low_rank", ("logdet",), "rank", {"batch": 1}),
        ("low_rank", ("solve",), "rank", {"columns": 1, "batch": 1}),
        ("dense", ("inv_quad", "logdet"), "columns", {"batch": 1}),
        ("general", ("inverse", "logdet"), "batch", {}),
    ],
)
def test_the_second_axis_is_the_first_size_that_the_problem_has(structure, requests, axis, held):
    question = Question(structure=structure, requests=requests)
    assert question.axis == axis
    assert question.shown_sizes == held


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_picture_has_a_label_for_each_region_and_the_profile_in_its_title(structure, here):
    result = run("--structure", structure, "--request", "inverse,solve", *TINY, "-o", "map.svg")
    assert result.exit_code == 0, result.stderr
    svg = (here / "map.svg").read_text()
    chart = choice_map(
        Question(structure=structure, requests=("inverse", "solve")), Policy(), PROFILE, largest=400, points=4
    )
    for name in np.unique(chart.chosen):
        assert f">{name}<" in svg
    assert f"generic profile of {PROFILE.created[:10]}" in svg
    assert STRUCTURES[structure].words in svg


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_title_stays_inside_the_picture(structure):
    picture = pytest.importorskip("autotune.report.map.picture", exc_type=ImportError)
    heading = (
        "Intel(R) Xeon(R) Platinum 8480CL CPU @ 2.00GHz, 112 cores, openblas 0.3.29 with 112 threads; " * 2
    )
    question = {"structure": structure, "requests": ("solve", "inverse", "logdet"), "gradient": True}
    with picture.matplotlib.rc_context(picture.SETTINGS):
        figure = picture.draw(tiny(**question), heading)
        figure.draw_without_rendering()
    title = figure.axes[0].title.get_window_extent()
    assert figure.bbox.x0 <= title.x0 < title.x1 <= figure.bbox.x1


def test_the_same_prices_give_the_same_file(here):
    for name in ("a.svg", "b.svg"):
        assert run(*TINY, "--output", name).exit_code == 0
    assert (here / "a.svg").read_bytes() == (here / "b.svg").read_bytes()


def test_without_a_name_the_picture_is_called_by_what_it_shows(here):
    result = run("--structure", "general", "--plane", "batch", *TINY)
    assert result.stdout == "Drawn in map-general-batch.png\n"
    assert (here / "map-general-batch.png").read_bytes().startswith(b"\x89PNG")


def test_a_policy_file_is_laid_over_the_others(here):
    (here / "policy.yaml").write_text("rules: [{force: lu}]\n")
    assert run(*TINY, "--policy", "policy.yaml", "-o", "map.svg").exit_code == 0
    assert ">lu<" in (here / "map.svg").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--structure", "banded"), "found the structure 'banded'; valid: low_rank, dense, general."),
        (("--plane", "width"), "found the plane 'width'; valid: rank, columns, batch."),
        (("--structure", "dense", "--plane", "rank"), "only 'low_rank' has a rank"),
        (("--request", "solve,trace"), "found the request 'trace'; valid: solve, logdet"),
        (("--structure", "general", "--request", "factor"), "found the request 'factor'; valid: solve"),
        (("--request", "logdet", "--plane", "columns"), "only solve or inv_quad has right-hand sides"),
        (("--dtype", "int8", *TINY), "no prices for dtype 'int8'"),
        (("-o", "map.odd", *TINY), "Format 'odd' is not supported"),
        (("--profile", "nobody"), "'nobody' is no file nor a profile's key"),
        (("--policy", "missing.yaml", *TINY), "missing.yaml: No such file or directory"),
    ],
)
def test_a_mistake_is_one_message(words, message, here):
    result = run(*words)
    assert result.exit_code == 1
    assert re.fullmatch(r"autotune: [^\n]+", result.stderr.strip())
    assert message in result.stderr


def test_without_matplotlib_the_message_says_what_to_install(here, monkeypatch):
    monkeypatch.delitem(sys.modules, "autotune.report.map.picture", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run(*TINY)
    assert result.exit_code == 1
    assert "pip install 'pytensor-autotune[plots]'" in result.stderr
