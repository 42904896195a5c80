"""Plain data: what is asked of a matrix, what is known of it, and what was decided.

`problem` (requests and their matrix), `term` (what the matrix is made of), `spectrum` (its eigenvalues),
`options` (what a strategy is told), `decision` (the outcome), `formats` (numbers as people read them).
"""

from autotune.problem.decision import Candidate, Decision, with_parts
from autotune.problem.options import Options
from autotune.problem.problem import GRADIENT_KINDS, REQUEST_KINDS, UNKNOWN, Problem, Request, Traits, known
from autotune.problem.term import STRUCTURES, Term, dense

__all__ = [
    "GRADIENT_KINDS",
    "REQUEST_KINDS",
    "STRUCTURES",
    "UNKNOWN",
    "Candidate",
    "Decision",
    "Options",
    "Problem",
    "Request",
    "Term",
    "Traits",
    "dense",
    "known",
    "with_parts",
]
