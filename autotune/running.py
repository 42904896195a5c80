"""Run a user's script under `autotune explain`, and print the plans of what it compiled."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from autotune.plan import Plan


def run_script(script: Path, arguments: Sequence[str]) -> None:
    """Run ``script`` as ``python script arguments`` would."""
    import runpy

    argv, sys.argv = sys.argv, [str(script), *arguments]
    sys.path.insert(0, str(script.parent.resolve()))
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.argv = argv
        sys.path.remove(str(script.parent.resolve()))


def print_plans(plans: Sequence[Plan], console: Console) -> None:
    """One block for each compiled function; that there was nothing to choose is said too."""
    from autotune.plan import Plan
    from autotune.plan_table import renderable

    for number, plan in enumerate(plans, 1):
        console.rule(f"function {number} of {len(plans)}", align="left")
        console.print(renderable(plan))
    if not plans:
        console.print(renderable(Plan()))
