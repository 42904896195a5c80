"""From a graph to problems: which matrices are solved, inverted or factorised, and what for.

``read(fgraph, compile_budget)`` walks the graph once, builds nothing in it, and returns one ``Reading`` a
matrix.
"""

from autotune.read.readings import GraphRequest, Reading
from autotune.read.scan import has_roots, read

__all__ = ["GraphRequest", "Reading", "has_roots", "read"]
