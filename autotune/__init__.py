"""Automatic choice of linear-algebra algorithms for PyTensor graphs.

    fn = pytensor.function(ins, outs, mode=autotune.mode())     # one function
    autotune.enable()                                           # every compile, PyMC's included
    loss = autotune.tune(loss)                                  # before pt.grad
    print(autotune.explain(fn))                                 # what was chosen, and why; a PyMC model, too
    K = autotune.precondition(K, M)                             # you know M ~ K^-1
    K = autotune.assume_condition_number(K, 50)                 # you know its condition number, at most

Importing the package changes nothing; names load when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "mode": "autotune.rewrite.doors",
    "enable": "autotune.rewrite.doors",
    "disable": "autotune.rewrite.doors",
    "enabled": "autotune.rewrite.doors",
    "tune": "autotune.rewrite.doors",
    "explain": "autotune.report.explain",
    "precondition": "autotune.algebra.marks",
    "assume_condition_number": "autotune.algebra.marks",
    "Plan": "autotune.plan",
    "Decision": "autotune.problem",
    "Policy": "autotune.policy",
    "PolicyError": "autotune.policy",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'autotune' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
