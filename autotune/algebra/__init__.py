"""What a matrix is, as graph variables: products with it, its parts, and what is asked of it.

`operator` (the base), a file for each structure, `sum`, `marked` and `batch` (combinations), `registry`
(the list). `requests` (one request as an Op, with its pullback), `solver` (what answers requests), `plain`
(answers by PyTensor's own Ops), `symmetric_parts` (the form that iterations take), `marks` (what the user
says), `signs`, `guarded` and `guarded_solver` (what holds only where a check at run time does), `example`
(inputs with values), `host` (PyTensor's private names).
"""

from autotune.algebra.registry import STRUCTURES, kind_of, operator_from, part_axes

__all__ = ["STRUCTURES", "kind_of", "operator_from", "part_axes"]
