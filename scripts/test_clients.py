"""Run the tests of the libraries around us with autotune enabled: they fail only where they fail without it.

    python scripts/test_clients.py --pytensor ~/pytensor --pymc ~/pymc -- -n 2

Each option is the source tree of a library, best at the version that is installed, which is the one tested: a
copy of the tree's tests runs elsewhere. What fails runs again without autotune. What then passes must be in
`tests/clients/exceptions.yaml` with the reason, and all that is there must need it. Words after ``--`` go to
pytest. Exit code 1 if not all is as it should be.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

CLIENTS = Path(__file__).resolve().parent.parent / "tests" / "clients"
EXCEPTIONS = CLIENTS / "exceptions.yaml"
# What of each library asks for linear algebra, as words for pytest.
TESTS = {
    "pytensor": ("tests/tensor/linalg", "tests/tensor/rewriting/linalg"),
    "pymc": ("tests/distributions/test_multivariate.py", "-k", "MatchesScipy or logp"),
    "ptgp": ("tests",),
    "pymc-extras": ("tests/statespace",),
}
# They configure pytest. The package of the tree stays away, so that the installed one is tested.
BESIDE = ("conftest.py", "pyproject.toml", "setup.cfg", "pytest.ini")
OPTIONS = ["-p", "with_autotune", "-o", "addopts=", "--rootdir=.", "-q", "--tb=short"]
OPTIONS += ["--continue-on-collection-errors", "--maxfail=0"]


@dataclass(frozen=True)
class Outcome:
    """Node ids by what became of them: with autotune, and of those that failed, without it."""

    passed: frozenset[str]
    failed: frozenset[str]
    fail_anyway: frozenset[str] = frozenset()

    @property
    def by_us(self) -> frozenset[str]:
        """They fail with autotune, and pass without."""
        return self.failed - self.fail_anyway


def run(tree: Path, tests: Sequence[str], more: Sequence[str]) -> Outcome:
    """``tests`` of ``tree`` with autotune; what fails once more without."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / tree.name
        shutil.copytree(tree / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        for name in BESIDE:
            if (tree / name).exists():
                shutil.copy(tree / name, copy)
        tuned = pytest(copy, [*tests, *more])
        plain = pytest(copy, [*sorted(tuned.failed), *more], without=True) if tuned.failed else tuned
        return Outcome(tuned.passed, tuned.failed, plain.failed & tuned.failed)


def pytest(folder: Path, words: Sequence[str], *, without: bool = False) -> Outcome:
    """The outcome of one run in ``folder``; exits if it does not come to its end."""
    found = folder / "outcomes.json"
    found.unlink(missing_ok=True)
    arguments = folder / "arguments.txt"  # they may be too many for a command line
    arguments.write_text("\n".join(words), encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(CLIENTS), os.environ.get("PYTHONPATH")]))
    mine = {"PYTHONPATH": path, "AUTOTUNE_OUTCOMES": str(found), "AUTOTUNE_LEFT_OUT": str(int(without))}
    program = [sys.executable, "-P", "-m", "pytest", *OPTIONS, f"@{arguments.name}"]
    subprocess.run(program, cwd=folder, env=os.environ | mine, check=False)
    if not found.exists():
        sys.exit(f"pytest did not come to its end in {folder}: see what it printed above.")
    return Outcome(**{key: frozenset(tests) for key, tests in json.loads(found.read_text()).items()})


def exceptions(library: str) -> dict[str, str]:
    """Why each test that is named for ``library`` may fail. An id without parameters stands for them all."""
    listed = (yaml.safe_load(EXCEPTIONS.read_text(encoding="utf-8")) or {}).get(library, [])
    return {test: entry["reason"] for entry in listed for test in entry["tests"]}


def told(test: str, listed: Iterable[str]) -> str | None:
    """Which of the entries ``listed`` names ``test``."""
    return next((entry for entry in listed if test == entry or test.startswith(f"{entry}[")), None)


def report(library: str, outcome: Outcome, listed: dict[str, str]) -> bool:
    """Print what became of the tests; whether all is as it should be."""
    expected = {test for test in outcome.by_us if told(test, listed)}
    wrong = outcome.by_us - expected
    needed = {told(test, listed) for test in outcome.failed}
    idle = [e for e in listed if e not in needed and any(told(test, [e]) for test in outcome.passed)]
    print(
        f"\n{library}: {len(outcome.passed)} passed, {len(outcome.failed)} failed with autotune; of these "
        f"{len(outcome.fail_anyway)} fail without it too, {len(expected)} are documented exceptions"
    )
    for test in sorted(wrong):
        print(f"  fails with autotune only: {test}")
    for entry in idle:
        print(f"  needs no exception any more: {entry}")
    return bool(outcome.passed) and not wrong and not idle


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for library in TESTS:
        parser.add_argument(f"--{library}", type=Path, metavar="TREE", help=f"a source tree of {library}")
    parser.add_argument("words", nargs="*", help="words for pytest, after --")
    given = vars(parser.parse_args())
    trees = {library: given[library.replace("-", "_")] for library in TESTS}
    trees = {library: tree.resolve() for library, tree in trees.items() if tree is not None}
    if not trees:
        parser.error("no source tree is given")
    for tree in trees.values():
        if not (tree / "tests").is_dir():
            parser.error(f"{tree} has no folder 'tests'; give the source tree of the library")
    found = {library: run(tree, TESTS[library], given["words"]) for library, tree in trees.items()}
    as_it_should_be = [report(library, outcome, exceptions(library)) for library, outcome in found.items()]
    return 0 if all(as_it_should_be) else 1


if __name__ == "__main__":
    sys.exit(main())
