"""Memory: n x n arrays in a compiled graph, and the peak of one call in a child process of its own."""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from pytensor.compile.builders import FinalizedOpFromGraph
from pytensor.graph.basic import Constant

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def square_arrays(fn: Any, n: int) -> tuple[int, int]:
    """Outputs of nodes, and constants, with n * n entries or more in ``fn``.

    By static shapes, an unknown length taken for 1; what is in place or a view is left out. Inner graphs that
    are compiled apart count too, work space inside an Op does not: that shows in ``peak_of_call`` alone.
    """
    return _count(fn.maker.fgraph, n)


def _count(fgraph: Any, n: int) -> tuple[int, int]:
    made = 0
    constants = {id(v): v for v in fgraph.variables if isinstance(v, Constant) and _is_square(v, n)}
    kept = len(constants)
    for node in fgraph.apply_nodes:
        # Fused loops are graphs only in form: what is inside them lives in registers.
        if hasattr(node.op, "fgraph") and not isinstance(node.op, FinalizedOpFromGraph):
            inner_made, inner_kept = _count(node.op.fgraph, n)
            made, kept = made + inner_made, kept + inner_kept
            continue
        reused = {*node.op.destroy_map, *node.op.view_map}
        made += sum(_is_square(out, n) for i, out in enumerate(node.outputs) if i not in reused)
    return made, kept


def _is_square(variable: Any, n: int) -> bool:
    shape = getattr(variable.type, "shape", ())
    return math.prod(1 if length is None else length for length in shape) >= n * n


def peak_of_call(call: Callable[[], Any]) -> int:
    """Bytes that ``call`` holds at its peak beyond what the process held before.

    The first call pays for compiling and for the work space that BLAS keeps, and is not counted. On Linux the
    high-water mark is then reset (``clear_refs``, proc(5)); the kernel counts in batches of pages, so a few
    hundred KB are noise. Elsewhere the mark of the whole process stands for it, and the call is the first:
    an upper bound, with what is compiled lazily in it.
    """
    if not CLEAR_REFS.exists():
        before = psutil.Process().memory_info().rss
        call()
        return highest_resident() - before
    call()
    gc.collect()
    CLEAR_REFS.write_text("5")
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def highest_resident() -> int:
    """Peak resident bytes of this process since it began."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _status(field: str) -> int:
    [line] = [line for line in STATUS.read_text().splitlines() if line.startswith(field + ":")]
    return 1024 * int(line.split()[1])


def in_child(script: str, *arguments: object) -> Any:
    """What ``script`` prints as JSON on its last line when it runs with ``arguments`` in a fresh process.

    glibc keeps freed blocks up to 32 MB for reuse, once it has seen one; a fixed threshold makes it return
    every array to the system, so that resident memory is what is in use.
    """
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with code {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
