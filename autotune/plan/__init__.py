"""What was decided for one compiled function: the plan, how it is shown, compared, saved and carried.

`model` (the plan), `table` and `json_text` (shown), `diff` (compared), `pins` and `pins_table` (saved as a
policy), `feature` (carried by the graph), `session` (collected, and what is in force meanwhile).
"""

from autotune.plan.model import Plan

__all__ = ["Plan"]
