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

START_SECONDS = 120.0


class WorkerLost(RuntimeError):
    """The worker crashed or did not answer in time; the next question starts a new one."""


class Worker:
    """A child process running `calibration.worker`, started when first asked."""

    def __init__(self) -> None:
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
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            self._answers = queue.Queue()
            threading.Thread(target=_pump, args=(self._process.stdout, self._answers), daemon=True).start()
        return self._process


def _pump(pipe: Any, answers: queue.Queue[str]) -> None:
    """Move lines from the pipe to the queue; an empty line says that the pipe has ended."""
    try:
        for line in pipe:
            answers.put(line)
    except ValueError:  # closed under our hands by `Worker.close`
        pass
    answers.put("")
