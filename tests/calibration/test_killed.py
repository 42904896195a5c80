"""A calibration that is killed, at whatever moment, leaves a state from which the next one goes on."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from calibration.session import stored_session
from cost_models import load_profile

KILLS = 20
# `calibrate` with a machine of known prices, each answer after a moment. One process imports it; for every
# line that it reads it forks another, which says its number, calibrates, and is killed from outside.
SCRIPT = """
import os, sys, time
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
        print("asked", flush=True)
        time.sleep(0.005)
        kernel = KERNEL_BY_NAME[request["kernel"]]
        times = [(d, 1e-5 + 1e-10 * (kernel.flops(d) + kernel.bytes(d, 8)), 0.0) for d in request["sizes"]]
        return {"idle": 9e-6, "times": times}

run.Worker, run._warn_if_busy = FakeWorker, lambda: None
for line in sys.stdin:
    child = os.fork()
    if not child:
        print(os.getpid(), flush=True)
        while True:
            run.calibrate(quick=True, output=sys.argv[1])
            print("done", flush=True)
    os.waitpid(child, 0)
    print("killed", flush=True)
"""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "profiles" / "mine.yaml"


@pytest.fixture
def script(output: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SCRIPT, str(output)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


def run_until(script: subprocess.Popen[str], moment: Callable[[TextIO], None]) -> None:
    """Calibrate, wait for ``moment(what it says)``, and kill it."""
    script.stdin.write("go\n")
    script.stdin.flush()
    child = int(script.stdout.readline())
    moment(script.stdout)
    os.kill(child, signal.SIGKILL)
    while script.stdout.readline() != "killed\n":
        pass


def test_twenty_kills_at_random_moments_leave_a_usable_state(
    output: Path, script: subprocess.Popen[str]
) -> None:
    moments = random.Random(0)

    def random_moment(said: TextIO) -> None:
        for _ in range(moments.randint(0, 6)):
            said.readline()
        time.sleep(moments.uniform(0, 0.02))

    measured = 0
    for _ in range(KILLS):
        run_until(script, random_moment)
        if output.exists():
            load_profile(output)
        session = stored_session(output)
        assert (session is not None) == output.with_suffix(".raw.json").exists()
        if session is not None and not session.complete:
            measured = max(measured, sum(len(found.passes) for found in session.measured.values()))
    assert measured > 0  # some kills fell between two kernels
    run_until(script, lambda said: next(line for line in said if line == "done\n"))
    assert load_profile(output).models["float64"]["potrf"].points > 5
