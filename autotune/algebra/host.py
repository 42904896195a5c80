"""PyTensor's private names that the package relies on, in one place: a release that renames one is told here.

What Ops need of its Numba backend is in `autotune.ops`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pytensor.graph.replace import _vectorize_node as vectorize_node
from pytensor.tensor.subtensor import _is_provably_non_negative as is_provably_nonnegative

__all__ = [
    "features_of",
    "is_branch",
    "is_provably_nonnegative",
    "mode_of_compile",
    "set_mode_of_compile",
    "vectorize_node",
]


def features_of(fgraph: Any) -> Iterable[Any]:
    """The features of a graph, in the order in which they were attached."""
    return getattr(fgraph, "_features", ())


def mode_of_compile(fgraph: Any) -> Any:
    """The mode for which a graph is being rewritten; PyTensor keeps it on the graph for as long."""
    return getattr(fgraph, "_compile_mode", None)


def set_mode_of_compile(fgraph: Any, mode: Any) -> None:
    fgraph._compile_mode = mode


def is_branch(fgraph: Any) -> bool:
    """Whether it is a branch of a lazy ``ifelse``, which was read when it was part of the graph around it.

    PyTensor keeps the cache of compiled branches on a branch while it rewrites it.
    """
    return hasattr(fgraph, "_lazy_ifelse_branch_cache")
