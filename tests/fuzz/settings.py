"""How a graph is compiled: linker, door, rewrites, policy, hints, and what else is checked."""

import math
from dataclasses import dataclass

ALL = ("keep", "cholesky", "cholesky_or_lu", "lu", "woodbury", "cg", "lanczos")
LINKERS, DOORS = ("py", "vm", "numba", "mix"), ("mode", "enable", "tune", "mix")
UNJUDGED_SIZE = 3000  # of a hint that is far off


@dataclass
class Setting:
    """Decisions that do not change what is computed."""

    linker: str
    door: str
    inplace: bool
    rewrites: str
    policies: list  # names and policies, to be tried in this order where one raises PolicyError
    hints: dict
    example_inputs: bool
    pins: bool
    pickled: bool
    layout: bool  # non-contiguous inputs
    wrong_lengths: bool
    tuned_inside: bool  # tune before the wrapper
    tuned_twice: bool
    compiled_plainly: bool  # what `tune` returned is compiled without autotune


def draw_setting(c, linker="mix", door="mix"):
    """A random setting; ``linker`` and ``door`` may be fixed."""
    drawn_linker = c.pick({"py": 0.7, "vm": 0.3})
    drawn_door = c.pick({"mode": 0.5, "enable": 0.2, "tune": 0.3})
    linker = drawn_linker if linker == "mix" else linker
    door = drawn_door if door == "mix" else door
    rewrites = c.pick({"full": 0.34, "light": 0.62, "fast_compile": 0.04})
    return Setting(
        linker=linker,
        door=door,
        inplace=c.chance(0.5) and linker != "py",
        rewrites=rewrites if linker != "numba" else "full",
        policies=draw_policies(c),
        hints={},
        example_inputs=c.chance(0.05),
        pins=c.chance(0.1),
        pickled=c.chance(0.04),
        layout=c.chance(0.35),
        wrong_lengths=c.chance(0.25),
        tuned_inside=c.chance(0.6),
        tuned_twice=c.chance(0.05) and door == "tune",
        compiled_plainly=c.chance(0.12) and door == "tune",
    )


def only(*names):
    """The policy that leaves nothing but these strategies."""
    return {"margin": 0, "rules": [{"forbid": [a for a in ALL if a not in names]}]}


def draw_policies(c):
    """A named policy, and the one that serves where it raises PolicyError."""
    name = c.pick({name: weight for name, (weight, _) in POLICIES.items()})
    policy = POLICIES[name][1](c)
    dispatch = c.pick({None: 0.5, True: 0.35, False: 0.15})
    named = [(name, policy)]
    if name != "margin 0":
        named.append(("margin 0, in its place", {"margin": 0}))
    if dispatch is not None:
        named = [(n, p if p is None else {**p, "runtime_dispatch": dispatch}) for n, p in named]
    return named


def draw_hints(c, g):
    """Sizes for lengths that are unknown when compiling, right ones and others."""
    if not c.chance(0.45):
        return {}
    wrong, hints = c.chance(0.6), {}
    for i in g.inputs:
        for axis, length in enumerate(i.var.type.shape if i.var.name else ()):
            if length is None and c.chance(0.8):
                true = max(1, g.length(i.dims[axis]))
                far = {"n": UNJUDGED_SIZE, "k": 3, "m": 1}.get(i.dims[axis], true)
                other = c.pick([far, true, max(1, far // 2)]) if c.chance(0.3) else far
                hints[f"{i.var.name}[{axis}]"] = other if wrong else true
    return hints


def _not(*names):
    return lambda c: {"margin": 0, "rules": [{"forbid": list(names)}]}


def _only(*names):
    return lambda c: only(*names)


def _cg(c):
    policy = only("cg", "woodbury", "cholesky")
    options = {"condition_number": 50}
    if c.chance(0.3):
        options["preconditioner"] = {"name": "jacobi"}
    policy["rules"].append({"options": options})
    return {**policy, "accuracy": {"solve_rtol": 1e-12}}


def _forced_cg(c):
    options = {"condition_number": 50}
    if c.chance(0.4):
        options["preconditioner"] = {"name": "pivoted_cholesky", "rank": 2}
    rule = {"match": {"request": ["solve", "inv_quad"]}, "force": "cg", "options": options}
    return {"margin": 0, "rules": [rule], "accuracy": {"solve_rtol": 1e-12}}


def _split(c):
    requests = [["logdet", "determinant"], ["solve", "inverse", "inverse_diagonal"]]
    names = ["lu", "cholesky_or_lu", "keep"]
    rules = [{"match": {"request": request}, "force": c.pick(names)} for request in requests]
    return {"margin": 0, "rules": rules}


def _forced_woodbury(c):
    return {"margin": 0, "rules": [{"match": {"structure": "low_rank"}, "force": "woodbury"}]}


def _by_parts(c):
    structures = ["kronecker", "block_diagonal", "block_triangular", "blocks", "permuted"]
    structures += ["toeplitz", "circulant"]
    return {"margin": 0, "rules": [{"match": {"structure": structures}, "forbid": list(ALL)}]}


POLICIES = {
    "default": (0.10, lambda c: None),
    "margin 0": (0.08, lambda c: {"margin": 0}),
    "not keep": (0.15, _not("keep")),
    "only woodbury": (0.12, _only("woodbury")),
    "by parts": (0.08, _by_parts),
    "only cholesky_or_lu": (0.11, _only("cholesky_or_lu")),
    "only cholesky": (0.07, _only("cholesky")),
    "only lu": (0.07, _only("lu")),
    "neither keep nor woodbury": (0.04, _not("keep", "woodbury")),
    "cg": (0.05, _cg),
    "forced cg": (0.015, _forced_cg),
    "forced woodbury": (0.035, _forced_woodbury),
    "split": (0.05, _split),
    "memory limit": (0.03, lambda c: {"margin": 0, "memory_limit": "1KiB"}),
}
assert math.isclose(sum(weight for weight, _ in POLICIES.values()), 1.0)
