"""Contradictions between the rules of one file.

Later rules win, so an exception may follow what it is an exception to. But where a later rule matches
everything that an earlier one matches and forbids what that one forces (or forces what it forbids), the
earlier demand can never take effect: that is no exception but a contradiction.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from autotune.policy.model import Match, Rule
from autotune.policy.names import REQUESTS

# Conditions on texts, and on what is known of a matrix.
PATTERNS = ("name", "rv", "source", "fingerprint")
FACTS = ("positive_definite", "symmetric")


@dataclass(frozen=True)
class Conflict:
    """Rule number `earlier` demands of `strategy` what rule number `later` always takes back."""

    earlier: int
    later: int
    strategy: str
    forced: bool  # by the earlier rule, and forbidden by the later one; otherwise the reverse


def conflicts(rules: Sequence[Rule]) -> Iterator[Conflict]:
    """All pairs of rules of which the later one undoes a demand of the earlier one wherever that matches."""
    for later, rule in enumerate(rules):
        for earlier, previous in enumerate(rules[:later]):
            clashes = [
                Conflict(earlier, later, force, forced=force == previous.force)
                for force, forbid in ((previous.force, rule.forbid), (rule.force, previous.forbid))
                if force is not None and force in forbid
            ]
            if clashes and covers(rule.match, previous.match):
                yield from clashes


def without_dead_demands(rules: Sequence[Rule]) -> list[Rule | None]:
    """Each rule without the demands that `conflicts` finds undone, None where nothing is left of it.

    The rules that remain resolve alike, and may stand in one file. Rules of several layers need this: there a
    later one may take back an earlier one.
    """
    kept: list[Rule | None] = list(rules)
    for conflict in conflicts(rules):
        rule = kept[conflict.earlier]
        kept[conflict.earlier] = None if rule is None else _without(rule, conflict)
    return kept


def covers(general: Match, special: Match) -> bool:
    """Whether `general` holds wherever `special` does. Sound: a doubtful case is a no."""
    return (
        all(_covers_names(getattr(general, key), getattr(special, key)) for key in PATTERNS)
        and all(getattr(general, key) in (None, getattr(special, key)) for key in FACTS)
        and _covers_words(general.request, special.request or REQUESTS)
        and _covers_words(general.structure, special.structure)
        and _at_least(general.min_n, _fewest(special))
        and (general.max_n is None or (special.max_n is not None and special.max_n <= general.max_n))
    )


def _covers_names(general: str | None, special: str | None) -> bool:
    """Patterns with `*` alone cover a pattern whose text they match; others cover only themselves.

    A star takes in any text, so also every text that a wildcard of `special` stands for.
    """
    if general is None or special is None or general == special:
        return general is None or general == special
    comparable = not set("?[") & set(general) and "[" not in special
    return comparable and fnmatchcase(special, general)


def _covers_words(general: tuple[str, ...] | None, special: tuple[str, ...] | None) -> bool:
    return general is None or (special is not None and set(special) <= set(general))


def _fewest(match: Match) -> int | None:
    """A lower bound on the sizes that match; None when also an unknown size does."""
    return 0 if match.min_n is None and match.max_n is not None else match.min_n


def _at_least(general: int | None, special: int | None) -> bool:
    return general is None or (special is not None and special >= general)


def _without(rule: Rule, conflict: Conflict) -> Rule | None:
    """`rule` without the demand that a later rule takes back; None if nothing is left of it."""
    given = rule.given()
    if conflict.forced:
        given.pop("force", None)
    else:
        given["forbid"] = tuple(name for name in rule.forbid if name != conflict.strategy)
    if not (given.get("force") or given.get("forbid") or rule.options.given()):
        return None
    left = Rule.model_validate(given)
    left._origin = rule.origin
    return left
