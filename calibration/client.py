"""The parent's side of the worker: ask, wait with a limit, kill, start afresh."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from types import TracebackType
from typing import Any, Self

from cost_models.fingerprint import usable_cores

START_SECONDS = 120.0
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "BLIS_NUM_THREADS")


class WorkerLost(RuntimeError):
    """The worker crashed or did not answer in time; the next question starts a new one."""


def check_threads(threads: int) -> None:
    """More BLAS threads than cores measure the scheduler: `ValueError`."""
    cores = usable_cores()
    if not 1 <= threads <= cores:
        raise ValueError(
            f"There are to be {threads} BLAS threads, and this process may use {cores} cores. "
            f"Give 1 to {cores}."
        )


class Worker:
    """A child process running `calibration.worker`, started when first asked.

    Its BLAS has `threads` threads, so its fingerprint has too; None: as many as the environment says.
    """

    def __init__(self, threads: int | None = None) -> None:
        if threads is not None:
            check_threads(threads)
        self._threads = threads
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """The worker's answer; `WorkerLost` when there is none within `timeout` seconds."""
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = self._answers.get(timeout=timeout)
        except queue.Empty:
            self.close()
            raise WorkerLost(f"does not finish within {timeout:.0f} s") from None
        except OSError:
            line = ""
        if not line:
            code = process.wait()
            self.close()
            raise WorkerLost(f"crashes the process (exit code {code})")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def close(self) -> None:
        """Kill the worker, whatever it is doing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was still to be written has no reader
                    pipe.close()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "calibration.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=self._environment(),
            )
            self._answers = queue.Queue()
            threading.Thread(target=_pump, args=(self._process.stdout, self._answers), daemon=True).start()
        return self._process

    def _environment(self) -> dict[str, str]:
        """This process's own, with the same modules to import and the wanted threads."""
        count = {} if self._threads is None else dict.fromkeys(THREAD_VARIABLES, str(self._threads))
        return os.environ | count | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _pump(pipe: Any, answers: queue.Queue[str]) -> None:
    """Move lines from the pipe to the queue; an empty line says that the pipe has ended."""
    try:
        for line in pipe:
            answers.put(line)
    except ValueError:  # closed under our hands by `Worker.close`
        pass
    answers.put("")
