"""From a graph to problems: which matrices are solved, inverted or factorised, and what for.

``read(fgraph, compile_budget)`` walks the graph once, builds nothing in it, and returns one ``Reading`` a
matrix. `scan` is the walk, `idioms` and `contracted` what is made of a matrix, `matrices` what it is:
`terms` (thin ones), `pencils` and `spectra` (constants), `noise`, `chains` and `triangles` (products),
`batches` (the one matrix that stands for all), `eigenbases` (densities in eigenvectors); `symmetry`, `equal`
and `facts` what is proven of it, `states` in the steps of Scans.
"""

from autotune.read.readings import GraphRequest, Reading
from autotune.read.scan import has_roots, read

__all__ = ["GraphRequest", "Reading", "has_roots", "read"]
