"""How the choice enters a compile: the doors, the passes over a graph, and a decision written as a graph.

`doors` (mode, enable, tune), `passes` (their course), `before_autodiff` (what is still to be differentiated),
`rederive` (what was differentiated by the user), `early` (what canonicalisation would destroy),
`describe` (readings as problems), `carried` (decisions from before autodiff), `build` (answers wired into the
graph), `dispatch` and `branches` (run-time sizes choose).
"""
