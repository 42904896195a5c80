"""`calibrate` on a machine of known prices, and once on the real one."""

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from calibration import run
from calibration.client import START_SECONDS, Worker, WorkerLost
from calibration.generic import LEAST_ERROR, generic
from calibration.report import print_report
from cost_models import (
    KERNEL_BY_NAME,
    KERNELS,
    REFERENCE_KERNELS,
    Profile,
    call,
    find_profile,
    fingerprint,
    generic_profile,
    load_profile,
)
from cost_models.model import ITEMSIZE


class FakeWorker:
    """A machine with 10 us a call, 1 us a kernel, 50 GFLOP/s and 20 GB/s."""

    asked: list[tuple[str, str]] = []  # noqa: RUF012
    compiled: list[tuple[str, str]] = []  # noqa: RUF012
    before: Callable[[str], None] = staticmethod(lambda kernel: None)
    slower = 1.0
    spread = 0.0

    def __init__(self, threads: int | None = None) -> None:
        FakeWorker.threads = threads

    def __enter__(self) -> "FakeWorker":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        if request["kernel"] == "fingerprint":
            return {"fingerprint": vars(fingerprint())}
        if "sizes" not in request:
            self.compiled.append((request["kernel"], request["dtype"]))
            return {}
        kernel, dtype = KERNEL_BY_NAME[request["kernel"]], request["dtype"]
        self.asked.append((kernel.name, dtype))
        type(self).before(kernel.name)
        if kernel.name == "sysv":
            return {"failed": "gives wrong results: relative error 1.0e+00"}
        bytes_ = ITEMSIZE[dtype]
        factor = self.slower if self.asked.count((kernel.name, dtype)) > 1 else 1.0
        times = [
            (dims, factor * (1e-5 + seconds_of(kernel, dims, bytes_)), self.spread)
            for dims in request["sizes"]
        ]
        return {"idle": 1e-5, "times": times}


def seconds_of(kernel, dims, itemsize: int) -> float:
    return 1e-6 + 2e-11 * kernel.flops(dims) * itemsize / 8 + 5e-11 * kernel.bytes(dims, itemsize)


# A calibration of a few kernels; of all of them it takes seconds.
SOME = ("call", "potrf", "potri", "gemm", "reduce")


@dataclass
class Calibrated:
    """A quick calibration of all kernels: the profile, the steps told, and what the worker was asked."""

    profile: Profile
    steps: list[tuple[str, int, int]]
    asked: list[tuple[str, str]]
    compiled: list[tuple[str, str]]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    steps: list[tuple[str, int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        fake = patched(patch)
        output = tmp_path_factory.mktemp("all") / "profile.yaml"
        profile = run.calibrate(quick=True, output=output, progress=lambda *step: steps.append(step))
        return Calibrated(profile, steps, fake.asked, fake.compiled)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeWorker]:
    return patched(monkeypatch)


def patched(monkeypatch: pytest.MonkeyPatch) -> type[FakeWorker]:
    monkeypatch.setattr(run, "Worker", FakeWorker)
    monkeypatch.setattr(FakeWorker, "before", staticmethod(lambda kernel: None))
    monkeypatch.setattr(FakeWorker, "asked", [])
    monkeypatch.setattr(FakeWorker, "compiled", [])
    monkeypatch.setattr(run, "_warn_if_busy", lambda: None)
    return FakeWorker


def test_calibrated_profile_predicts(everything: Calibrated) -> None:
    profile, steps = everything.profile, everything.steps
    assert profile.seconds(call("call"), "float64") == pytest.approx(1e-5)
    assert profile.seconds(call("gemm", m=77, n=400, k=30), "float64") == pytest.approx(
        1e-6 + 2 * 77 * 400 * 30 * 2e-11 + 8 * 5e-11 * (77 * 400 + 400 * 30 + 77 * 30), rel=0.05
    )
    assert profile.error("potrf", "float64") < 0.05
    assert steps[-1][1] == steps[-1][2]
    measuring = [done for label, done, _ in steps if not label.startswith("compiling")]
    assert measuring == sorted(measuring)
    assert len({done for _, done, _ in steps}) == len(steps)
    assert profile.source == "calibrated"
    assert "numpy" in profile.library_versions


def test_wrong_kernel_is_reported_once_and_keeps_the_generic_price(
    fake: type[FakeWorker], caplog: pytest.LogCaptureFixture
) -> None:
    profile = run.calibrate(quick=True, kernels=("potrf", "sysv"))
    assert profile.models["float64"]["sysv"] == generic_profile().models["float64"]["sysv"]
    [record] = caplog.records
    assert "Kernel sysv (float64) gives wrong results" in record.message


def test_what_the_ops_run_is_left_compiled(everything: Calibrated, fake: type[FakeWorker]) -> None:
    assert ("ops", "float64") in everything.compiled
    run.calibrate(quick=True, kernels=("potrf",))
    assert "ops" not in dict(fake.compiled)


def test_other_dtypes_are_derived_and_say_so(everything: Calibrated) -> None:
    profile = everything.profile
    assert {dtype for _, dtype in everything.asked} == {"float64", "float32"}
    for name, model in profile.models["float32"].items():
        measured = name in REFERENCE_KERNELS
        assert model.derived != measured or name == "sysv"
    work = call("potri", n=1000)
    halved = profile.seconds(work, "float32") / profile.seconds(work, "float64")
    assert halved == pytest.approx(0.5, rel=0.1)


def test_both_dtypes_can_be_measured(fake: type[FakeWorker]) -> None:
    profile = run.calibrate(quick=True, dtypes=("float64", "float32"), kernels=("potrf", "potri"))
    assert not profile.models["float32"]["potri"].derived
    assert fake.asked.count(("potri", "float32")) == run.QUICK_PASSES


def test_a_dtype_measured_before_is_not_replaced_by_derived_prices(fake: type[FakeWorker]) -> None:
    before = run.calibrate(quick=True, kernels=("call", "potrf", "gemm"), dtypes=ITEMSIZE)
    after = run.calibrate(quick=True, kernels=("call", "potrf", "gemm"), dtypes=("float32",))
    assert after.models["float64"] == before.models["float64"]
    assert find_profile() == after


def test_interruption_leaves_the_old_profile_and_resumes(
    fake: type[FakeWorker], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = tmp_path / "mine.yaml"
    run.calibrate(quick=True, output=output, kernels=SOME)
    before = output.read_text()
    fake.asked.clear()

    def interrupt(kernel: str) -> None:
        if kernel == "gemm":
            raise KeyboardInterrupt

    monkeypatch.setattr(fake, "before", staticmethod(interrupt))
    with pytest.raises(KeyboardInterrupt):
        run.calibrate(quick=True, output=output, kernels=SOME)
    assert output.read_text() == before
    measured = [task for task in fake.asked if task[0] != "gemm"]
    assert measured
    monkeypatch.setattr(fake, "before", staticmethod(lambda kernel: None))
    fake.asked.clear()
    run.calibrate(quick=True, output=output, kernels=SOME)
    assert fake.asked[0] != measured[0]
    assert all(fake.asked.count(task) == run.QUICK_PASSES - 1 for task in measured)


def test_lost_worker_costs_one_kernel(
    fake: type[FakeWorker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(kernel: str) -> None:
        if kernel == "potri":
            raise WorkerLost("crashes the process (exit code -11)")

    monkeypatch.setattr(fake, "before", staticmethod(crash))
    profile = run.calibrate(quick=True, kernels=SOME)
    assert profile.models["float64"]["potri"].points == generic_profile().models["float64"]["potri"].points
    assert profile.models["float64"]["potrf"].points > 5
    assert any("Kernel potri (float64) crashes the process" in record.message for record in caplog.records)


def test_a_fresh_calibration_measures_everything_again(
    fake: type[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(kernel: str) -> None:
        if kernel == "gemm":
            raise KeyboardInterrupt

    monkeypatch.setattr(fake, "before", staticmethod(interrupt))
    with pytest.raises(KeyboardInterrupt):
        run.calibrate(quick=True, kernels=SOME)
    monkeypatch.setattr(fake, "before", staticmethod(lambda kernel: None))
    fake.asked.clear()
    run.calibrate(quick=True, fresh=True, kernels=SOME)
    assert fake.asked.count(("potrf", "float64")) == run.QUICK_PASSES


def test_the_worker_gets_the_threads(fake: type[FakeWorker]) -> None:
    run.calibrate(quick=True, threads=3, kernels=("call",))
    assert fake.threads == 3


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("spread", 0.5, "times are unstable"), ("slower", 1.3, "became 30 % slower")],
)
def test_a_machine_that_is_not_at_rest_is_reported(
    fake: type[FakeWorker], monkeypatch: pytest.MonkeyPatch, caplog, name: str, value: float, message: str
) -> None:
    run.calibrate(quick=True, kernels=("potrf", "gemm"))
    assert message not in caplog.text
    monkeypatch.setattr(fake, name, value)
    fake.asked.clear()
    run.calibrate(quick=True, kernels=("potrf", "gemm"))
    assert message in caplog.text


def test_a_kernel_that_does_not_compile_is_reported_once_and_not_measured(
    fake: type[FakeWorker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(FakeWorker):
        def ask(self, request, timeout):
            if request["kernel"] == "potri" and "sizes" not in request:
                raise WorkerLost("does not finish within 300 s")
            return super().ask(request, timeout)

    monkeypatch.setattr(run, "Worker", Broken)
    run.calibrate(quick=True, kernels=("potri", "reduce"))
    [record] = caplog.records
    assert "Kernel potri (float64) does not finish" in record.message
    assert ("potri", "float64") not in fake.asked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"kernels": ["cholesky"]}, "no kernel cholesky"), ({"dtypes": ["float16"]}, "dtype float16")],
)
def test_unknown_names_are_refused_before_measuring(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run.calibrate(**arguments)


def test_busy_machine_is_reported(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(run.os, "getloadavg", lambda: (1e3, 0, 0))
    run._warn_if_busy()
    assert "is busy" in caplog.text


def test_report_lists_every_kernel_with_its_error(everything: Calibrated) -> None:
    out = io.StringIO()
    print_report(everything.profile, Console(file=out, width=200))
    for kernel in KERNELS:
        assert f" {kernel.name} " in out.getvalue()
    assert "derived" in out.getvalue()
    assert "GFLOP/s" in out.getvalue()


def test_generic_profile_is_rounded_and_modest(everything: Calibrated) -> None:
    made = generic(everything.profile)
    assert made.source == "generic"
    assert made.fingerprint.cpu == "generic"
    model = made.models["float64"]["gemm"]
    assert model.error >= LEAST_ERROR
    assert all(float(f"{price:.1e}") == price for price in model.coefficients.values())


def test_worker_answers_dies_and_starts_again() -> None:
    with Worker() as worker:
        assert worker.ask({"kernel": "fingerprint"}, START_SECONDS)["fingerprint"]["linker"] == "numba"
        worker._process.kill()
        with pytest.raises(WorkerLost, match="exit code"):
            worker.ask({"kernel": "fingerprint"}, START_SECONDS)
        assert "failed" in worker.ask({"kernel": "no such kernel", "dtype": "float64"}, START_SECONDS)
        with pytest.raises(WorkerLost, match="within 0 s"):
            worker.ask({"kernel": "fingerprint"}, 0)
    assert worker._process is None


def test_two_kernels_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        run, "grid", lambda kernel, quick: [(n,) for n in range(10, 2000, 250)] if kernel != "call" else [()]
    )
    with caplog.at_level(logging.WARNING, "autotune"):
        profile = run.calibrate(quick=True, kernels=("call", "reduce"), budget=25.0)
    assert not [record for record in caplog.records if "Kernel" in record.message]
    assert load_profile(run.profile_path()) == profile
    assert profile.seconds(call("call"), "float64") > 0
    assert profile.models["float64"]["reduce"].points > 3
    assert profile.models["float64"]["potrf"].points == 0
