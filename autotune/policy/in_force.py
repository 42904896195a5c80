"""The policy in force for a compile. What reads and checks policies is imported where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from autotune.policy.defaults import DEFAULT
from autotune.policy.places import policy_files

if TYPE_CHECKING:
    from autotune.policy.model import Policy
    from autotune.policy.places import PolicySource


def policy_in_force(*sources: PolicySource, layers: bool = True) -> Policy:
    """`sources`, lowest first, over the defaults and (`layers`) the files that are in force.

    Where there is none of them, `DEFAULT` stands in for `Policy()`.
    """
    if all(source is None for source in sources) and not (layers and policy_files()):
        return cast("Policy", DEFAULT)
    from autotune.policy.files import layered

    return layered(*sources, layers=layers)
