"""Which candidate to take while sizes are unknown: one that is cheaper whatever they turn out to be.

Tried on a grid of sizes: evidence, not a proof. Between its points prices are sums of powers of the sizes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from autotune.choose.candidates import seconds
from cost_models import call

# Sizes that may come, at which prices are compared.
MAY_COME = {
    "n": tuple(8**i for i in range(6)),
    "rank": tuple(8**i for i in range(6)),
    "columns": tuple(64**i for i in range(3)),
    "batch": (1, 32),
}
# Combinations that are tried.
MOST_POINTS = 256
# Below this relative difference two predictions are the same.
INDIFFERENT = 0.02
# What a candidate must save somewhere.
WORTH_IT = 0.1
# Nodes of a graph that compares run-time sizes with a threshold: to lose less than they cost is no loss.
NODES_TO_COMPARE = 4


def points(grids: dict[str, tuple[int, ...]], names: Sequence[str]) -> Iterator[dict[str, int]]:
    """All combinations of the values that ``grids`` gives for the sizes ``names``, those of parts included.

    Of many sizes fewer values each.
    """
    values = [grids[name.rpartition(".")[2]] for name in names]
    while math.prod(map(len, values)) > MOST_POINTS:
        longest = max(range(len(values)), key=lambda i: len(values[i]))
        values[longest] = values[longest][::2]
    for sizes in itertools.product(*values):
        yield dict(zip(names, sizes, strict=True))


def overhead(problem, profile) -> float:
    """Seconds that it takes to look at run-time sizes."""
    return profile.seconds(call("node", count=NODES_TO_COMPARE), problem.dtype)


def pick_for_all_sizes(problem, open_, keep, profile, options):
    """Sizes unknown: act only on a candidate that is cheaper whatever they turn out to be."""
    unknown = ", ".join(problem.unknown_sizes)
    stay = keep or open_[0]
    for candidate in open_:
        if candidate is not stay and _wins_everywhere(problem, candidate, stay, profile, options):
            return candidate, f"cheaper for every {unknown}"
    return stay, f"size unknown ({unknown}); no candidate is cheaper for all. Give a hint under 'sizes'"


def _wins_everywhere(problem, candidate, stay, profile, options) -> bool:
    gains, free = False, overhead(problem, profile)
    for sizes in points(MAY_COME, problem.unknown_sizes):
        sized = problem.with_sizes(**sizes)
        ours, _ = seconds(sized, (candidate.name,) * len(problem.requests), options, profile)
        theirs, _ = seconds(sized, (stay.name,) * len(problem.requests), options, profile)
        if ours > theirs * (1 + INDIFFERENT) + free:
            return False
        gains = gains or ours < (1 - WORTH_IT) * theirs
    return gains
