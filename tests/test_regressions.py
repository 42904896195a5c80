"""The comparison of regressions: each learns, ours is monotone, all are scored alike."""

import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from calibration.grids import grid
from calibration.held_out import held_out_shapes
from calibration.session import Pass, open_session
from calibration.validation import Row, Validation
from cost_models import KERNEL_BY_NAME, KernelCall, generic_profile, save_profile
from cost_models.model import term_names

PAGE = (Path(__file__).parents[1] / "docs" / "cost-models.md").read_text(encoding="utf-8")
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))
regression_models, regressions = map(importlib.import_module, ("regression_models", "regressions"))
Points, REGRESSIONS = regression_models.Points, regression_models.REGRESSIONS
CACHE = generic_profile().fingerprint.cache_bytes
KERNELS = ("potrf", "gemv")


@pytest.fixture(autouse=True)
def _one_thread():
    with threadpool_limits(1):
        yield


def timed(kernel, sizes, noise=0.03, seconds=None):
    """What a machine with the generic prices, or with `seconds(dims)`, would measure, a little noisy."""
    price = seconds or (lambda dims: generic_profile().seconds(KernelCall(kernel, dims), "float64"))
    errors = np.exp(noise * np.random.default_rng(len(sizes)).normal(size=len(sizes)))
    measured = tuple(float(e * price(d)) for d, e in zip(sizes, errors, strict=True))
    return Points(kernel, "float64", tuple(sizes), measured, CACHE)


def measurements(kernels=KERNELS):
    return regressions.Measurements(
        "a machine",
        {f"float64/{k}": timed(k, grid(k, quick=True)) for k in kernels},
        {f"float64/{k}": timed(k, held_out_shapes(k, 6)) for k in kernels},
    )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", REGRESSIONS)
def test_every_regression_beats_the_mean(name, kernel):
    points = timed(kernel, grid(kernel, quick=False))
    mean = np.full(len(points.sizes), np.exp(np.mean(np.log(points.seconds))))
    error = np.median(regression_models.relative_errors(points, REGRESSIONS[name](points)(points.sizes)))
    assert error < 0.5 * np.median(regression_models.relative_errors(points, mean))


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("ours", 1e-6),
        ("flops and bytes (NNLS)", 1e-6),
        ("our terms, quantile", 1e-6),
        ("our terms, Huber", 0.05),
    ],
)
def test_linear_regressions_find_a_linear_law(name, tolerance):
    kernel = KERNEL_BY_NAME["gemm"]

    def law(dims):
        return 2e-6 + 3e-11 * kernel.flops(dims) + 5e-11 * kernel.bytes(dims, 8)

    predictor = REGRESSIONS[name](timed("gemm", grid("gemm", quick=True), noise=0.0, seconds=law))
    unseen = timed("gemm", held_out_shapes("gemm", 20), noise=0.0, seconds=law)
    assert regression_models.relative_errors(unseen, predictor(unseen.sizes)).max() < tolerance


def test_a_quantile_regression_is_not_drawn_by_outliers():
    kernel = KERNEL_BY_NAME["potrf"]
    points = timed("potrf", grid("potrf", False), 0.0, lambda d: 2e-6 + 3e-11 * kernel.flops(d))
    spoilt = points.at(points.sizes, [s * (0.5 if i % 5 == 2 else 1) for i, s in enumerate(points.seconds)])
    errors = {
        name: np.median(regression_models.relative_errors(points, REGRESSIONS[name](spoilt)(points.sizes)))
        for name in ("our terms, quantile", "flops and bytes (NNLS)")
    }
    assert errors["our terms, quantile"] < 0.01 < 0.1 < errors["flops and bytes (NNLS)"]


def test_a_fall_in_one_dimension_is_not_monotone():
    sizes = [(10, 10), (1000, 1000)]
    assert regressions.is_monotone(lambda line: np.array([m * n + 1.0 for m, n in line]), sizes)
    assert not regressions.is_monotone(lambda line: np.array([m / n for m, n in line]), sizes)
    assert not regressions.is_monotone(
        lambda line: np.array([n - 90.0 * (n > 300) for (n,) in line]), [(2,), (999,)]
    )


@pytest.mark.parametrize("kernel", ["gemm", "low_rank_solve"])
def test_ours_is_monotone(kernel):
    predictor = REGRESSIONS["ours"](timed(kernel, grid(kernel, quick=True), noise=0.3))
    assert regressions.is_monotone(predictor, grid(kernel, quick=True))


def test_extrapolation_is_to_more_work_than_was_learned_from():
    points = timed("gemv", grid("gemv", quick=False))
    small, large = regressions.split_by_work(points)
    assert len(small.sizes) == 2 * len(points.sizes) // 3
    assert sorted((*small.sizes, *large.sizes)) == sorted(points.sizes)
    work = [max(regression_models.work("gemv", d) for d in small.sizes)]
    assert all(regression_models.work("gemv", d) >= work[0] for d in large.sizes)


def test_the_least_seconds_of_a_flop_are_those_of_gemm_in_the_same_points():
    flops = KERNEL_BY_NAME["gemm"].flops
    sizes = [(9, 9, 9), (100, 100, 100), (300, 300, 300)]
    gemm = timed("gemm", sizes, 0.0, lambda d: 1e-3 + 1e-11 * flops(d))
    found = regressions.with_floors({"float64/gemm": gemm, "float64/potrf": timed("potrf", [(5,)])})
    fastest = (1e-3 + 1e-11 * 2 * 300**3) / (2 * 300**3)
    assert [p.flops_floor for p in found.values()] == [pytest.approx(0.8 * fastest)] * 2


def test_measurements_are_read_as_they_were_saved(tmp_path):
    measurements().save(tmp_path / "m.json")
    assert regressions.Measurements.load(tmp_path / "m.json") == measurements()


def test_measurements_pair_the_stored_points_with_the_held_out_shapes(tmp_path, monkeypatch):
    path = save_profile(generic_profile(), tmp_path / "p.yaml")
    times = {(n,): 1e-5 + 1e-6 * n for n in range(2, 40)}
    open_session(path, {}).record("potrf", "float64", Pass(1e-5, times, dict.fromkeys(times, 0.0)))
    unseen = Validation(tuple(Row(k, "float64", (77,), 2e-5, 3e-5) for k in ("potrf", "potri")))
    monkeypatch.setattr(regressions, "validate", lambda profile, **options: unseen)
    found = regressions.Measurements.take(path, 1, 1.0)
    assert list(found.calibration) == list(found.held_out) == ["float64/potrf"]
    seen = found.calibration["float64/potrf"]
    expected = {(n,): pytest.approx(1e-6 * n) for n in range(2, 40)}
    assert dict(zip(seen.sizes, seen.seconds, strict=True)) == expected
    assert found.held_out["float64/potrf"].seconds == (2e-5,)
    assert seen.cache_bytes == found.held_out["float64/potrf"].cache_bytes == CACHE
    with pytest.raises(SystemExit, match="autotune calibrate"):
        regressions.Measurements.take(save_profile(generic_profile(), tmp_path / "q.yaml"), 1, 1.0)


def test_the_script_prints_a_row_for_each_regression_and_writes_them(tmp_path, monkeypatch, capsys):
    measurements(("potrf",)).save(tmp_path / "m.json")
    argv = ["regressions.py", "--load", str(tmp_path / "m.json"), "--output", str(tmp_path / "r.json")]
    monkeypatch.setattr(sys, "argv", argv)
    regressions.main()
    lines = capsys.readouterr().out.splitlines()
    results = json.loads((tmp_path / "r.json").read_text())
    for name in REGRESSIONS:
        assert sum(line.startswith(f"| {name} |") for line in lines) == 1
    assert [row["regression"] for row in results["summary"]] == list(REGRESSIONS)
    assert sum(line.startswith("| float64/potrf |") for line in lines) == 2
    ours = results["summary"][0]
    assert ours["monotone"] == ours["kernels"] == 1
    assert ours["held_out_median"] <= ours["held_out_p90"] <= ours["held_out_worst"]


def test_the_page_names_every_regression_and_every_common_term():
    rows = re.findall(r"^\| (.+?) \|", PAGE, re.MULTILINE)
    assert set(REGRESSIONS) <= set(rows)
    assert {f"`{name}`" for name in term_names("call")} <= set(rows)
