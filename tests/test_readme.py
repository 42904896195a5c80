"""The README prints what it says, soon; that its code runs is checked with all pages, in test_docs."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def shape(plan: str) -> list[str]:
    """A plan without what depends on the machine: names and structure, not times, memory or their order."""
    measured = r"[\d.]+(e\+\d+)? ?(times|us|ms|s|KiB|MiB|GiB)\b|->"
    lines = [" ".join(re.sub(measured, "", line).split()) for line in plan.splitlines()]
    return sorted(line for line in lines if line)


def test_the_first_example_prints_the_plan_that_the_readme_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks("python")[0], str(README), "exec"), {"__name__": "readme"})
    assert shape(printed.getvalue()) == shape(blocks("text")[0])


def test_the_first_example_stands_within_thirty_lines():
    assert TEXT[: TEXT.index("explain(fn)")].count("\n") < 30


def test_importing_the_package_loads_no_pytensor():
    code = "import autotune, sys; print('pytensor' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
