"""Published kinds of PyMC models: under autotune each has the value and gradient that PyMC gives it."""

import importlib
import inspect
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import in_turn, python_mode, relative_error

pm = pytest.importorskip("pymc")
pytestmark = [
    pytest.mark.pymc,
    # of PyMC itself: MatrixNormal, MarginalApprox
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))
CATALOGUE = importlib.import_module("pymc_catalogue").CATALOGUE
catalogue = importlib.import_module("catalogue")


@pytest.mark.parametrize("name", in_turn(CATALOGUE, 25))
def test_value_and_gradient_are_those_of_plain_pymc(name):
    plain, tuned = catalogue.compile_both(CATALOGUE[name], scale=1, mode=python_mode())
    assert not [plan.failure for plan in catalogue.plans(tuned) if plan.failure]
    for seed in range(2):
        point = catalogue.point_near_start(CATALOGUE[name](), seed)
        (value, gradient), (expected, expected_gradient) = tuned(point), plain(point)
        assert np.isfinite(expected)
        assert relative_error(value, expected) < 1e-11
        assert relative_error(gradient, expected_gradient) < 1e-10


def test_every_model_says_on_a_line_what_it_is():
    lines = {name: inspect.getdoc(build) for name, build in CATALOGUE.items()}
    assert [name for name, line in lines.items() if not line.endswith(".") or "\n" in line] == []


def test_the_page_has_the_measurements():
    results = json.loads(catalogue.RESULTS.read_text())
    assert catalogue.PAGE.read_text() == catalogue.with_tables(catalogue.PAGE.read_text(), results)


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    measured = []

    def measure(name, linker, scale):
        measured.append(name)
        return {"chosen": ["cholesky"], "plain": 1.0, "autotune": 0.5, "compile": 1.1, "differs": 0.0}

    monkeypatch.setattr(catalogue, "measure", measure)
    path, settings = tmp_path / "results.json", {"scale": 1.0}
    for names in (["ridge", "kriging"], ["ridge", "kriging", "twins"]):
        catalogue.run(names, "py", path, settings)
    assert measured == ["ridge", "kriging", "twins"]
    assert set(catalogue.load(path)["py"]["rows"]) == {"ridge", "kriging", "twins"}
    with pytest.raises(SystemExit, match="--anew"):
        catalogue.run(["ridge"], "py", path, {"scale": 2.0})
