"""Held-out shapes are off the grid and within it; errors, spread and failures are reported as they are."""

import io
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import kstest

from calibration import held_out, validation
from calibration.client import WorkerLost
from calibration.graphs import GRAPH_BY_KERNEL
from calibration.grids import grid
from calibration.held_out import ROUNDS, held_out_shapes
from calibration.validation import TARGETS, Row, Validation, accuracy, print_validation, validate
from cost_models import KERNEL_BY_NAME, KernelCall, Profile, fingerprint, generic_profile

SIZED = [name for name, kernel in KERNEL_BY_NAME.items() if kernel.dims]
IDLE = 1e-5


# -- drawing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", SIZED)
def test_held_out_shapes_are_within_the_grid_and_never_on_it(kernel: str) -> None:
    drawn, timed = held_out_shapes(kernel, 12, seed=3), np.array(grid(kernel, quick=False))
    assert len(set(drawn)) == 12
    assert not set(drawn).intersection(grid(kernel, quick=False) + grid(kernel, quick=True))
    assert (np.array(drawn) >= timed.min(axis=0)).all()
    assert (np.array(drawn) <= timed.max(axis=0)).all()
    work = [KERNEL_BY_NAME[kernel].flops(d) + KERNEL_BY_NAME[kernel].bytes(d, 8) for d in drawn]
    assert work == sorted(work)


@pytest.mark.parametrize("kernel", ["low_rank_factor", "low_rank_solve"])
def test_ranks_stay_below_half_the_size_as_in_the_grid(kernel: str) -> None:
    drawn = held_out_shapes(kernel, 200)
    assert len(drawn) == 200
    assert all(2 * k <= n for n, k, *_ in drawn)


def test_the_seed_decides_what_is_drawn_and_the_kernel_too() -> None:
    assert held_out_shapes("potrf", 9, seed=1) == held_out_shapes("potrf", 9, seed=1)
    assert held_out_shapes("potrf", 9, seed=1) != held_out_shapes("potrf", 9, seed=2)
    assert held_out_shapes("potrf", 9, seed=1) != held_out_shapes("potri", 9, seed=1)


def test_shapes_are_uniform_on_a_logarithmic_scale() -> None:
    low, high = np.log(np.min(grid("gemv", False), axis=0)), np.log(np.max(grid("gemv", False), axis=0))
    shares = (np.log(held_out_shapes("gemv", 300)) - low) / (high - low)
    for share in shares.T:
        share = share[share > 0.5]  # below, whole numbers are too coarse
        assert len(share) > 100
        assert kstest(2 * share - 1, "uniform").pvalue > 0.01


def test_fewer_shapes_are_drawn_where_there_are_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "grid", lambda kernel, quick: [(3,), (5,), (7,)])
    assert held_out_shapes("potrf", 12) == [(4,), (6,)]


# -- measuring ---------------------------------------------------------------------------------------


class FakeWorker:
    """A machine that takes `factor` times what the generic profile says, round by round."""

    factor: Callable[[str, int], float]
    requests: list[dict[str, Any]]
    cut = 0
    threads: int | None = None
    clock = 0.0

    def __init__(self, threads: int | None = None) -> None:
        type(self).threads = threads

    def __enter__(self) -> "FakeWorker":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        if request["kernel"] == "fingerprint":
            return {"fingerprint": vars(fingerprint())}
        if "sizes" not in request:
            return {}
        turn = sum(request["kernel"] == other["kernel"] for other in self.requests)
        self.requests.append(request)
        type(self).clock += request["budget"]
        kernel, factor = request["kernel"], type(self).factor(request["kernel"], turn)
        repeats = factor * GRAPH_BY_KERNEL[kernel].repeats
        sizes = request["sizes"][: len(request["sizes"]) - self.cut]
        times = [
            (d, IDLE + repeats * generic_profile().seconds(KernelCall(kernel, d), "float64"), 0.0)
            for d in sizes
        ]
        return {"idle": IDLE, "times": times}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeWorker]:
    monkeypatch.setattr(validation, "Worker", FakeWorker)
    monkeypatch.setattr(held_out.time, "monotonic", lambda: FakeWorker.clock)
    monkeypatch.setattr(FakeWorker, "factor", staticmethod(lambda kernel, turn: 1.0), raising=False)
    monkeypatch.setattr(FakeWorker, "requests", [], raising=False)
    monkeypatch.setattr(FakeWorker, "cut", 0)
    monkeypatch.setattr(FakeWorker, "clock", 0.0)
    return FakeWorker


def checked(**options: Any) -> Validation:
    return validate(generic_profile(), dtypes=["float64"], **{"shapes": 4, **options})


def test_each_kernel_with_dimensions_is_compared_with_its_prediction(fake: type[FakeWorker]) -> None:
    fake.factor = staticmethod(lambda kernel, turn: 1.25)
    found = checked()
    assert Counter(row.kernel for row in found.rows) == dict.fromkeys(SIZED, 4)
    for row in found.rows:
        predicted = generic_profile().seconds(KernelCall(row.kernel, row.dims), "float64")
        assert row.predicted == predicted
        assert row.measured == pytest.approx(1.25 * predicted, rel=1e-6, abs=1.1e-8)
        assert row.dims in held_out_shapes(row.kernel, 4)
    assert max(row.error for row in found.rows) == pytest.approx(0.2, rel=1e-3)
    assert found.failed == {}
    assert found.left_out == 0


def test_a_disturbed_round_changes_no_time_and_two_are_reported(fake: type[FakeWorker]) -> None:
    fake.factor = staticmethod(lambda kernel, turn: 3.0 if turn == 0 else 1.0)
    once = checked()
    fake.requests.clear()
    fake.factor = staticmethod(lambda kernel, turn: 3.0 if turn < ROUNDS // 2 else 1.0)
    twice = checked()
    for row in (*once.rows, *twice.rows):
        assert row.measured == pytest.approx(row.predicted, rel=1e-6, abs=1.1e-8)
    assert once.unstable() == ()
    assert {row.kernel for row in twice.unstable()} == set(SIZED)


def test_a_kernel_that_fails_is_named_and_the_others_are_compared(fake: type[FakeWorker]) -> None:
    def factor(kernel: str, turn: int) -> float:
        if kernel == "potri" and turn == 1:
            raise WorkerLost("crashes the process (exit code -11)")
        return 1.0

    fake.factor = staticmethod(factor)
    found = checked()
    assert found.failed == {("potri", "float64"): "crashes the process (exit code -11)"}
    assert {row.kernel for row in found.rows} == set(SIZED) - {"potri"}
    assert found.left_out == 0


def test_shapes_beyond_the_budget_are_counted(fake: type[FakeWorker]) -> None:
    fake.cut = 1
    assert checked().left_out == len(SIZED)


@pytest.mark.parametrize("budget", [30.0, 300.0])
def test_the_budget_is_shared_by_all_rounds_and_spent(fake: type[FakeWorker], budget: float) -> None:
    checked(budget=budget)
    assert len(fake.requests) == ROUNDS * len(SIZED)
    assert sum(request["budget"] for request in fake.requests) == pytest.approx(budget)
    kernels = [request["kernel"] for request in fake.requests]
    assert kernels == ROUNDS * kernels[: len(SIZED)]


def test_progress_rises_to_its_total(fake: type[FakeWorker]) -> None:
    steps: list[tuple[int, int]] = []
    checked(progress=lambda label, done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert {total for _, total in steps} == {steps[-1][0]}


def test_derived_prices_are_compared_only_when_asked(fake: type[FakeWorker]) -> None:
    asked = {(row.kernel, row.dtype) for row in validate(generic_profile(), shapes=1).rows}
    models = [model for own in generic_profile().models.values() for model in own.values()]
    assert asked == {(m.kernel, m.dtype) for m in models if m.kernel in SIZED and not m.derived}
    singles = validate(generic_profile(), shapes=1, dtypes=["float32"]).rows
    assert {(row.kernel, row.dtype) for row in singles} == {(kernel, "float32") for kernel in SIZED}
    with pytest.raises(ValueError, match="dtype float16"):
        validate(generic_profile(), dtypes=["float16"])


def calibrated(threads: int) -> Profile:
    machine = replace(fingerprint(), threads=threads)
    return replace(generic_profile(), source="calibrated", fingerprint=machine)


def test_the_threads_are_those_of_the_calibration(
    fake: type[FakeWorker], caplog: pytest.LogCaptureFixture
) -> None:
    validate(calibrated(fingerprint().threads), shapes=1)
    assert fake.threads == fingerprint().threads
    assert caplog.records == []
    validate(generic_profile(), shapes=1)
    assert fake.threads is None
    validate(calibrated(97), shapes=1, threads=3)
    assert fake.threads == 3
    with caplog.at_level(logging.WARNING, "autotune"):
        validate(calibrated(97), shapes=1)
    assert "97t" in caplog.text


def test_a_kernel_of_this_machine_is_measured() -> None:
    models = {"float64": {"reduce": generic_profile().models["float64"]["reduce"]}}
    found = validate(replace(generic_profile(), models=models), shapes=3, budget=0.5)
    assert [row.dims for row in found.rows] == held_out_shapes("reduce", 3)
    assert all(0 < row.measured < 1 for row in found.rows)
    assert found.failed == {}


# -- reporting ---------------------------------------------------------------------------------------


def rows(kernel: str, *errors: float, spread: float = 0.0) -> tuple[Row, ...]:
    return tuple(Row(kernel, "float64", (10 + i,), 1.0, 1.0 + e, spread) for i, e in enumerate(errors))


def test_accuracy_is_the_quantiles_of_the_relative_error() -> None:
    found = accuracy(rows("potrf", 0.0, -0.1, 0.2, -0.3, 0.4))
    assert (found.median, found.p90) == (pytest.approx(0.2), pytest.approx(0.36))
    assert found.worst.dims == (14,)
    with pytest.raises(ValueError, match="No shape"):
        accuracy(())


def test_seconds_below_the_resolution_of_the_clock_are_no_error() -> None:
    assert Row("potrf", "float64", (2,), 1e-8, 2e-8).error < 0.1
    assert Row("potrf", "float64", (2,), 1e-3, 2e-3).error == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(
    ("errors", "target"),
    [((0.05, 0.05, 0.2), "full"), ((0.15, 0.2), "quick"), ((0.01, 0.9), None), ((0.3,), None)],
)
def test_the_strictest_target_that_holds_is_named(errors: tuple[float, ...], target: str | None) -> None:
    assert accuracy(rows("potrf", *errors)).target == target


def printed(found: Validation) -> str:
    out = io.StringIO()
    print_validation(found, Console(file=out, width=200))
    return out.getvalue()


def test_the_table_runs_from_the_worst_kernel_to_the_line_over_all() -> None:
    text = printed(
        Validation(
            rows("potrf", 0.05, 0.0) + rows("potri", 0.9, 0.8, spread=0.5) + rows("inv", 0.2),
            {("sysv", "float64"): "crashes the process (exit code -11)"},
            left_out=7,
        )
    )
    lines = [
        next(i for i, line in enumerate(text.splitlines()) if f" {name} " in line)
        for name in ("potri", "inv", "potrf", "all")
    ]
    assert lines == sorted(lines)
    assert "potri n=10: 1 s, predicted 1.9 s" in text
    for name, holding in zip(TARGETS, (1, 2), strict=True):
        assert f"{name} calibration" in text
        assert f"missed over all, holds for {holding} of 3 kernels" in text
    assert "2 of 5 shapes took over 10% more" in text
    assert "7 of the largest shapes did not fit" in text
    assert "Kernel sysv (float64) crashes the process" in text


def test_a_validation_without_shapes_says_so() -> None:
    text = printed(Validation((), {("potrf", "float64"): "gives wrong results"}))
    assert "No shape was measured" in text
    assert "gives wrong results" in text
