"""What the pages say is so: their code runs, their policies load, their commands parse, their names exist."""

import ast
import contextlib
import functools
import importlib
import inspect
import io
import re
import shlex
from pathlib import Path

import pytensor.compile.mode
import pytest
import typer
import typer.main
import yaml
from helpers import python_mode, register

import autotune
import autotune.strategies
from autotune.cli import app
from autotune.plan.session import enabled_policies
from autotune.policy import Policy
from autotune.policy.files import load_policy
from autotune.strategies import Strategy

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```([\w-]*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
UsageError = typer.BadParameter.__base__
SHELLS = ("", "console", "sh")
LINK = re.compile(r"\]\(([^)#: ]+)(?:#[\w-]*)?\)")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(text_of(page)) if found == language]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def is_command(line: str) -> bool:
    return re.match(r"(\$ )?autotune [a-z-]", line) is not None


def commands(page: Path) -> list[str]:
    """The command lines of a page that begin with ``autotune``: in blocks, and after four spaces."""
    text = text_of(page)
    lines = [line for language in SHELLS for block in blocks(page, language) for line in block.splitlines()]
    lines += re.findall(r"^    (\S.*)$", FENCE.sub("", text), re.MULTILINE)
    return [line for line in lines if is_command(line)]


def mentions(page: Path) -> list[str]:
    """Commands in the running text, which may leave out what they are about: `autotune check`."""
    prose = re.sub(r"^    .*$", "", FENCE.sub("", text_of(page)), flags=re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    return [span for span in spans if is_command(span)]


def with_pages(per_page):
    """A parameter for each page that has something to check, marked if it needs PyMC."""

    def marked(page):
        pymc = any("pymc" in block for block in blocks(page, "python"))
        return pytest.param(page, id=name_of(page), marks=[pytest.mark.pymc] if pymc else [])

    return pytest.mark.parametrize("page", [marked(page) for page in PAGES if per_page(page)])


# -- code -----------------------------------------------------------------------------------------


@pytest.fixture
def python_linker(monkeypatch):
    """What says nothing of a mode is compiled for the Python linker, which is quick."""
    monkeypatch.setitem(pytensor.compile.mode.predefined_modes, "MODE", python_mode())


def strategies_in(namespace: dict) -> list[type[Strategy]]:
    """Classes of strategies that a page has defined so far and that are not registered."""
    classes = [v for v in namespace.values() if inspect.isclass(v) and issubclass(v, Strategy)]
    known = {s.name for s in autotune.strategies.STRATEGIES}
    return [c for c in classes if getattr(c, "name", None) not in known | {None}]


def run(code: list[str], label: str, monkeypatch) -> None:
    """Execute blocks in one namespace; a strategy that one of them defines is registered for the next."""
    namespace = {"__name__": "page"}
    for number, block in enumerate(code):
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(block, f"{label}, block {number}", "exec"), namespace)
        for strategy in strategies_in(namespace):
            register(strategy(), monkeypatch)


@with_pages(lambda page: blocks(page, "python"))
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch, python_linker):
    code = blocks(page, "python")
    if any("pymc" in block for block in code):
        pytest.importorskip("pymc")
    monkeypatch.chdir(tmp_path)
    run(code, name_of(page), monkeypatch)
    assert not enabled_policies, "The page leaves autotune enabled."


def test_code_that_fails_is_noticed_and_blocks_share_their_names(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        run(["x = 0", "1 / x"], "page", monkeypatch)


# -- policies and commands ------------------------------------------------------------------------


@with_pages(lambda page: blocks(page, "yaml"))
def test_a_yaml_block_is_a_policy(page, tmp_path):
    for block in blocks(page, "yaml"):
        path = tmp_path / "policy.yaml"
        path.write_text(block)
        assert load_policy(path, layers=False) != Policy(), block


def parse(words: list[str]) -> None:
    """Parse a command line as the program would, without running it; UsageError where it would be refused."""
    command, name = typer.main.get_command(app), "autotune"
    while hasattr(command, "resolve_command"):
        context = command.make_context(name, words, resilient_parsing=False)
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
    command.make_context(name, words, resilient_parsing=False)


def words_of(line: str) -> list[str]:
    """The arguments of a line of a page, without a prompt, redirections and a comment."""
    line = re.sub(r"\s>\s*\S+", "", line.removeprefix("$ "))
    return shlex.split(line, comments=True)[1:]


@with_pages(lambda page: commands(page) or mentions(page))
def test_a_command_of_a_page_is_one_that_the_program_takes(page):
    for line in [*commands(page), *mentions(page)]:
        try:
            parse(words_of(line))
        except typer.Exit:  # --help
            pass
        except UsageError as error:
            if line in commands(page) or not error.format_message().startswith("Missing argument"):
                pytest.fail(f"{line!r}: {error.format_message()}")


@pytest.mark.parametrize("line", ["autotune dance", "autotune map --colour red", "autotune profile nothing"])
def test_a_wrong_command_is_noticed(line):
    with pytest.raises(UsageError):
        parse(words_of(line))


# -- links, names, navigation ---------------------------------------------------------------------


@with_pages(lambda page: LINK.search(FENCE.sub("", text_of(page))))
def test_links_lead_somewhere(page):
    targets = LINK.findall(FENCE.sub("", text_of(page)))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_reference_has_every_public_name_and_only_names_that_exist():
    shown = re.findall(r"^::: (\S+)$", text_of(DOCS / "api.md"), re.MULTILINE)
    assert {f"{module}.{name}" for name, module in autotune._HOME.items()} <= set(shown)
    for path in shown:
        module, name = path.rsplit(".", 1)
        assert hasattr(importlib.import_module(module), name), path


def test_the_navigation_has_every_page():
    def leaves(entry):
        if isinstance(entry, str):
            return [entry]
        children = entry.values() if isinstance(entry, dict) else entry
        return [leaf for child in children for leaf in leaves(child)]

    navigation = yaml.safe_load(text_of(ROOT / "mkdocs.yml"))["nav"]
    assert sorted(leaves(navigation)) == sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))


# -- messages -------------------------------------------------------------------------------------


@functools.cache
def templates() -> list[re.Pattern[str]]:
    """Every text in the source that is long enough to tell, with what is filled in at run time left open."""
    found = set()
    for package in ("autotune", "cost_models", "calibration"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(text_of(path))):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                fixed = [getattr(part, "value", None) for part in parts]
                if sum(len(text) for text in fixed if isinstance(text, str)) >= 20:
                    parts = [re.escape(t).replace("%s", ".*") if isinstance(t, str) else ".*" for t in fixed]
                    found.add("".join(parts))
    return [re.compile(pattern) for pattern in found]


def test_the_messages_of_the_troubleshooting_page_are_those_of_the_program():
    known = templates()
    messages = [block.strip() for block in blocks(DOCS / "troubleshooting.md", "message")]
    assert len(messages) > 10
    assert [message for message in messages if not any(t.search(message) for t in known)] == []


def test_a_message_that_nobody_prints_is_noticed():
    assert not any(template.search("The matrix is too beautiful to be inverted.") for template in templates())
