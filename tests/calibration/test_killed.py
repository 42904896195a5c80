"""A calibration that is killed, at whatever moment, leaves a state from which the next one goes on."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calibration.session import stored_session
from cost_models import load_profile

KILLS = 20
# `calibrate` with a machine of known prices, each answer after a moment. The kill comes from outside.
SCRIPT = """
import sys, time
from calibration import run
from cost_models import Fingerprint, KERNEL_BY_NAME

MACHINE = Fingerprint("test", 2, "blas", "1", 2, "numba", 2**20)

class FakeWorker:
    def __init__(self, threads=None): pass
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def ask(self, request, timeout):
        if request["kernel"] == "fingerprint":
            return {"fingerprint": vars(MACHINE)}
        if "sizes" not in request:
            return {}
        time.sleep(0.005)
        kernel = KERNEL_BY_NAME[request["kernel"]]
        times = [(d, 1e-5 + 1e-10 * (kernel.flops(d) + kernel.bytes(d, 8)), 0.0) for d in request["sizes"]]
        return {"idle": 9e-6, "times": times}

run.Worker, run._warn_if_busy = FakeWorker, lambda: None
print("ready", flush=True)
while True:
    run.calibrate(quick=True, output=sys.argv[1])
    print("done", flush=True)
"""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "profiles" / "mine.yaml"


def run_until(output: Path, moment: Callable[[Any], None]) -> None:
    """Start the script, wait until it calibrates and then for ``moment(its output)``, and kill it."""
    command = [sys.executable, "-c", SCRIPT, str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        moment(process.stdout)
        process.send_signal(signal.SIGKILL)


def test_twenty_kills_at_random_moments_leave_a_usable_state(output: Path) -> None:
    moments = random.Random(0)
    measured = 0
    for _ in range(KILLS):
        run_until(output, lambda _: time.sleep(moments.uniform(0, 0.4)))
        if output.exists():
            load_profile(output)
        session = stored_session(output)
        assert (session is not None) == output.with_suffix(".raw.json").exists()
        if session is not None and not session.complete:
            measured = max(measured, sum(len(found.passes) for found in session.measured.values()))
    assert measured > 0  # some kills fell between two kernels
    said = []
    run_until(output, lambda lines: said.append(lines.readline()))
    assert said == ["done\n"]
    assert load_profile(output).models["float64"]["potrf"].points > 5
