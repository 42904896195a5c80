"""The choice among all candidates for a problem, a pure function of plain data.

`choice` puts the steps together: `candidates` and their prices, `margins` by which one must win, `memory`;
`best_preconditioner` for iterations; `all_sizes` and `crossing` for sizes known only at run time.
"""

from autotune.choose.candidates import seconds, strategy
from autotune.choose.choice import choose, decide, describe, pinned, with_crossover

__all__ = ["choose", "decide", "describe", "pinned", "seconds", "strategy", "with_crossover"]
