"""What a user demands: the model of a policy, and how policies are read, layered, checked and shown.

`places`, `defaults` and `in_force` (what a compile asks for), `model` (the policy and its law), `sections`,
`types`, `names`, `crossover` (what it is made of), `files` and `yaml_loader` (reading and layering),
`messages`, `conflicts`, `checking` and `checking_table` (what is wrong, what hits what), `effective` and
`schema` (what is in force, what is valid). The model is imported when it is first used: that takes time.
"""

from typing import TYPE_CHECKING, Any

from autotune.policy.defaults import PolicyError, Resolved

if TYPE_CHECKING:
    from autotune.policy.model import (
        Accuracy,
        Match,
        Options,
        Origin,
        Policy,
        Preconditioner,
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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from autotune.policy import model

    return getattr(model, name)
