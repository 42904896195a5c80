"""How the choice enters a compile: the doors, the passes over a graph, and a decision written as a graph.

`doors` (mode, enable, tune), `passes` (their course), `before_autodiff` (what is still to be
differentiated), `rederive` (what was differentiated by the user), `guards` (structure that canonicalisation
would destroy), `early` and `determinants` (what it would write otherwise), `steps` (what Scans are told),
`describe` (readings as problems), `carried` (decisions from before autodiff), `build` (answers wired into
the graph), `products` (with what is not formed, and by syrk), `dispatch` and `branches` (run-time sizes
choose).
"""
