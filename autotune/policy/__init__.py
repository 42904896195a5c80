"""What a user demands: the model of a policy, and how policies are read, layered, checked and shown.

`model` (the policy and its law), `sections`, `types`, `names`, `crossover` (what it is made of), `files` and
`yaml_loader` (reading and layering), `messages`, `conflicts`, `checking` and `checking_table` (what is wrong,
what hits what), `effective` and `schema` (what is in force, what is valid).
"""

from autotune.policy.model import (
    Accuracy,
    Match,
    Options,
    Origin,
    Policy,
    PolicyError,
    Preconditioner,
    Resolved,
    Rule,
)

__all__ = [
    "Accuracy",
    "Match",
    "Options",
    "Origin",
    "Policy",
    "PolicyError",
    "Preconditioner",
    "Resolved",
    "Rule",
]
