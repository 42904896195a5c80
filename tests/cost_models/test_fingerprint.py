"""The fingerprint is of this machine and this moment, and costs microseconds once it is known."""

import importlib
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from cost_models import fingerprint

module = importlib.import_module("cost_models.fingerprint")


def in_a_new_process(code: str, **environment: str) -> str:
    program = f"import sys\nfrom cost_models import fingerprint\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    return done.stdout.strip()


def test_fingerprint_describes_this_process() -> None:
    machine = fingerprint()
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert machine.threads >= 1
    assert machine.cache_bytes > 2**15
    assert machine.linker == "numba"
    assert fingerprint() is machine


def test_only_the_first_call_asks_the_machine() -> None:
    fingerprint()
    asked = module._machine.cache_info().misses
    for _ in range(3):
        fingerprint()
    assert module._machine.cache_info().misses == asked


def test_a_limit_on_the_threads_is_seen_at_once_and_nothing_else_changes() -> None:
    before = fingerprint()
    for threads in (1, 2):
        with threadpool_limits(threads):
            assert fingerprint() == replace(before, threads=threads)
    assert fingerprint() is before


def test_a_limit_on_numpys_blas_alone_is_not_seen() -> None:
    before = fingerprint()
    others = [pool["filepath"] for pool in threadpool_info() if "numpy" in Path(pool["filepath"]).parent.name]
    if not others:
        pytest.skip("NumPy and SciPy share one BLAS here")
    from threadpoolctl import ThreadpoolController

    with ThreadpoolController().select(filepath=others).limit(limits=before.threads + 1):
        assert fingerprint() is before


@pytest.mark.parametrize("threads", [1, 2])
def test_the_environment_sets_the_threads_and_keeps_the_rest(threads: int) -> None:
    found = in_a_new_process("print(fingerprint())", OPENBLAS_NUM_THREADS=str(threads))
    assert found == str(replace(fingerprint(), threads=threads))


def test_the_blas_is_found_without_importing_scipy_linalg() -> None:
    code = (
        "first = fingerprint(); print('scipy.linalg' in sys.modules)\n"
        "import scipy.linalg; print(first == fingerprint())"
    )
    assert in_a_new_process(code).split() == ["False", "True"]


def test_the_blas_found_is_the_one_that_scipy_calls() -> None:
    """Importing SciPy's linear algebra afterwards loads no other BLAS."""
    code = (
        "from threadpoolctl import threadpool_info as pools\n"
        "fingerprint(); before = {p['filepath'] for p in pools()}\n"
        "import scipy.linalg; print({p['filepath'] for p in pools()} == before)"
    )
    assert in_a_new_process(code) == "True"


def test_another_layout_of_scipy_is_imported_instead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import scipy

    monkeypatch.setattr(scipy, "__file__", str(tmp_path / "__init__.py"))
    module._scipy_blas.cache_clear()
    assert fingerprint().blas != ""
    assert "scipy.linalg" in sys.modules


def test_a_blas_that_threadpoolctl_does_not_know_is_named_as_scipy_was_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from scipy.__config__ import CONFIG

    monkeypatch.setattr(module, "_scipy_blas", lambda: None)
    assert module._blas_name()[0] == CONFIG["Build Dependencies"]["blas"]["name"]


# -- limits on the cores --------------------------------------------------------------------------


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree of control groups; `own` says where this process is in it."""
    monkeypatch.setattr(module, "_CGROUPS", tmp_path)
    monkeypatch.setattr(module, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    return tmp_path


def limit(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_affinity_counts_where_no_group_limits(cgroups: Path) -> None:
    assert module.usable_cores() == 16
    limit(cgroups, cpu__max="max 100000")
    assert module.usable_cores() == 16


@pytest.mark.parametrize(("quota", "cores"), [(50_000, 1), (250_000, 3), (3_200_000, 16)])
def test_the_quota_of_a_container_counts(cgroups: Path, quota: int, cores: int) -> None:
    limit(cgroups, cpu__max=f"{quota} 100000")
    assert module.usable_cores() == cores


@pytest.mark.parametrize("limited", ["job", "job/step", "job/step/task"])
def test_the_least_quota_of_the_own_group_and_those_above_counts(cgroups: Path, limited: str) -> None:
    (cgroups / "own").write_text("0::/job/step/task\n")
    limit(cgroups / "job" / "step" / "task", cpu__max="max 100000")
    limit(cgroups / limited, cpu__max="200000 100000")
    limit(cgroups / "another", cpu__max="100000 100000")
    assert module.usable_cores() == 2


def test_groups_of_version_1_count(cgroups: Path) -> None:
    (cgroups / "own").write_text("5:memory:/m\n3:cpu,cpuacct:/job\n")
    limit(cgroups / "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    limit(cgroups / "cpu" / "job", cpu__cfs_quota_us="400000", cpu__cfs_period_us="100000")
    assert module.usable_cores() == 4


@pytest.mark.parametrize("text", ["", "nonsense", "1 0", "max"])
def test_an_unreadable_quota_limits_nothing(cgroups: Path, text: str) -> None:
    limit(cgroups, cpu__max=text)
    assert module._quota(cgroups) == math.inf
    assert module.usable_cores() == 16
