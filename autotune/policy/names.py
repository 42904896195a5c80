"""The words of a policy: what may be matched, forced and forbidden, and how a misspelt one is answered."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from autotune.problem import REQUEST_KINDS
from autotune.problem import STRUCTURES as STRUCTURES

REQUESTS = REQUEST_KINDS
EFFORTS = ("estimate", "measure", "exhaustive")
PRECONDITIONERS = ("none", "jacobi", "pivoted_cholesky")
# Beyond this length a word is no misspelling, and shown shortened.
LONGEST_SHOWN = 60


def strategy_names() -> tuple[str, ...]:
    """Names a rule may force: those of the registry, which is imported when a rule first names one."""
    from autotune.strategies import STRATEGIES

    return tuple(strategy.name for strategy in STRATEGIES)


def shown(value: object) -> str:
    """A value as its file writes it, on one line and shortened."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a whole number of about {round(value.bit_length() * 0.30103)} digits"
    names = {dict: "a mapping", list: "a list", tuple: "a list", type(None): "null", bool: str(value).lower()}
    text = names.get(type(value))
    if text is None:
        text = repr(value[: 2 * LONGEST_SHOWN] if isinstance(value, str | bytes) else value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def printable(text: str) -> str:
    """A path or name on one line, whatever its characters."""
    return "".join(c if c.isprintable() else "?" for c in text)


def did_you_mean(word: object, valid: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the closest valid word whatever its case, or nothing."""
    text = word.casefold() if isinstance(word, str) and len(word) <= LONGEST_SHOWN else ""
    by_text = {name.casefold(): name for name in valid}
    close = get_close_matches(text, by_text, n=1)
    return f" Did you mean '{by_text[close[0]]}'?" if close else ""


def unknown_word(word: str, valid: Sequence[str]) -> str:
    """The end of a message about a word that is not one of `valid`."""
    return f"found {shown(word)}; valid: {', '.join(valid)}.{did_you_mean(word, valid)}"


@dataclass(frozen=True)
class OneOf:
    """Annotates a text that must be one of `names()`, called only when there is a text to check."""

    names: Callable[[], tuple[str, ...]]

    def check(self, word: str) -> str:
        valid = self.names()
        if word in valid:
            return word
        raise ValueError(unknown_word(word, valid))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.names())}
