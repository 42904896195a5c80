"""Policy files that are wrong: each gives one clear message with file and line, and never a traceback."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from malformed_policies import CASES

from autotune.policy import Policy, PolicyError
from autotune.policy.files import MOST_BYTES, load_policy
from autotune.policy.messages import MOST_SHOWN


def test_there_are_two_hundred_distinct_files():
    assert len({case[0] for case in CASES.values()}) == len(CASES) >= 200


def content(case) -> bytes:
    return case[0] if isinstance(case[0], bytes) else case[0].encode()


@pytest.fixture
def malformed(tmp_path):
    def write(name: str):
        path = tmp_path / "policy.yaml"
        path.write_bytes(content(CASES[name]))
        return path

    return write


@pytest.mark.parametrize("name", CASES)
def test_a_malformed_file_gives_one_clear_message_with_file_and_line(name, malformed):
    path = malformed(name)
    _, line, *words = CASES[name]
    with pytest.raises(PolicyError) as failure:
        load_policy(path, layers=False)
    message = str(failure.value)
    assert message.startswith(f"{path}:{line}: ")
    assert all(word in message for word in words), message
    assert message.endswith((".", "?"))
    assert len(message.splitlines()) == 1
    assert len(message) < 500
    assert message.isprintable()


def test_the_mistakes_of_a_file_are_counted_when_there_are_many(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("".join(f"key_{i}: 1\n" for i in range(100)))
    with pytest.raises(PolicyError) as failure:
        load_policy(path, layers=False)
    lines = str(failure.value).splitlines()
    assert len(lines) == MOST_SHOWN + 1
    assert lines[-1] == f"{path}: {100 - MOST_SHOWN} more mistakes."


@pytest.mark.parametrize("name", ["billion laughs", "deep mappings", "a number of 5000 digits in margin"])
def test_a_short_file_does_not_grow_large_in_memory(name, malformed):
    path = malformed(name)
    tracemalloc.start()
    with pytest.raises(PolicyError):
        load_policy(path, layers=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 * 2**20


def test_a_file_that_is_too_large_is_not_parsed(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(
        PolicyError, match=r"policy\.yaml: found more than 256 KiB; a policy file is smaller\."
    ):
        load_policy(path, layers=False)
    path.write_bytes(b"#" * MOST_BYTES)
    assert load_policy(path, layers=False) == Policy()


def _directory(path: Path) -> None:
    path.mkdir()


def _nothing(path: Path) -> None:
    path.unlink(missing_ok=True)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_nothing, "No such file or directory"),
        (_directory, "Is a directory"),
        (_pipe, "Is no regular file"),
        (_device, "Is no regular file"),
        (_link_to_itself, "symbolic links"),
    ],
)
@pytest.mark.parametrize("name", ["policy.yaml", "two\nlines.yaml"])
def test_what_is_no_file_is_one_message_and_never_waited_for(tmp_path, make, reason, name):
    path = tmp_path / name
    make(path)
    with pytest.raises(PolicyError) as failure:
        load_policy(path, layers=False)
    message = str(failure.value)
    assert reason in message
    assert message.endswith("give the path of a policy file.")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("path", ["", "~nobody/policy.yaml", "policy\0.yaml", "x" * 5000])
def test_what_is_no_path_is_one_message(path):
    with pytest.raises(PolicyError, match=r"give the path of a policy file\.$") as failure:
        load_policy(path, layers=False)
    assert str(failure.value).isprintable()


COMMANDS = """
import sys, typer
from autotune.cli.policy import check, policies
app = typer.Typer(pretty_exceptions_enable=False)
app.add_typer(policies, name="policy")
app.command()(check)
app(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("typo at the top", "check"),
        ("billion laughs", "policy show"),
        ("UTF-16, little end first", "check"),
        ("deep lists", "policy show"),
    ],
)
def test_the_command_line_prints_the_message_and_no_traceback(name, command, malformed):
    path = malformed(name)
    words = [sys.executable, "-c", COMMANDS, *command.split(), str(path)]
    ran = subprocess.run(words, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.startswith(f"autotune: {path}:{CASES[name][1]}: ")
    assert len(ran.stderr.splitlines()) == 1
