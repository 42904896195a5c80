"""A pytest plugin: another library's tests with autotune enabled, or without, their outcomes noted in a file.

`scripts/test_clients.py` loads it. ``AUTOTUNE_OUTCOMES`` names the file, JSON with the node ids that passed
and those that failed, of tests or of files that could not be collected. ``AUTOTUNE_LEFT_OUT=1`` leaves
autotune out.
"""

import json
import os
from pathlib import Path

passed: dict[str, None] = {}
failed: dict[str, None] = {}


def pytest_configure(config):
    if os.environ.get("AUTOTUNE_LEFT_OUT") != "1":
        import autotune

        autotune.enable()


def pytest_collectreport(report):
    if report.failed:
        failed[report.nodeid] = None


def pytest_runtest_logreport(report):
    """A test fails if its set-up or its tear-down does."""
    if report.failed:
        failed[report.nodeid] = None
    elif report.passed and report.when == "call":
        passed[report.nodeid] = None


def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput"):
        return  # a worker of pytest-xdist: its reports reach the main process too
    outcomes = {"passed": [test for test in passed if test not in failed], "failed": list(failed)}
    Path(os.environ["AUTOTUNE_OUTCOMES"]).write_text(json.dumps(outcomes), encoding="utf-8")
