"""What was decided for one compiled function: the plan, how it is shown, compared, saved and carried.

`model` (candidates, decisions, plan), `table` and `json_text` (shown), `diff` (compared), `pins` and
`pins_table` (saved as a policy), `feature` (carried by the graph), `formats` (numbers with units).
"""

from autotune.plan.model import Candidate, Decision, Plan

__all__ = ["Candidate", "Decision", "Plan"]
