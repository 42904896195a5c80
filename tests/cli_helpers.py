"""What the tests of the command line share: a command's run, and a calibrated profile."""

from dataclasses import replace

from typer.testing import CliRunner

from autotune.cli import app
from cost_models import fingerprint, generic_profile


def run(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def calibrated(**changes):
    own = {"source": "calibrated", "fingerprint": fingerprint(), "created": "2031-01-02T03:04:05+00:00"}
    return replace(generic_profile(), **(own | changes))
