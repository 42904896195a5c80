"""What requests share: right-hand sides, inverses, vectors of the matrix's order."""

import pytensor.tensor as pt
from pytensor.tensor import linalg as pl

from fuzz.generator import Parts


class Ask(Parts):
    """The pieces of a request: `Parts` of the matrix's order, and the matrix ``K`` itself."""

    def __init__(self, g, m, K):
        super().__init__(g, m.dim)
        self.m, self.K = m, K

    def one_of(self, *thunks):
        return self.g.one_of(*thunks)

    def inv(self):
        return pl.inv(self.K)

    def assumption(self):
        """``assume_a`` of a solve with a matrix that may be known to be positive definite."""
        return "pos" if self.m.spd and self.g.chance(0.5) else "gen"

    def rhs(self, columns=None):
        """A right-hand side and its ``b_ndim``."""
        table = {None: RHS, "matrix": COLUMNS, "vector": VECTORS}[columns]
        name = self.g.pick({name: weight for name, (weight, _) in table.items()})
        self.g.note(f"b[{name}]")
        made = table[name][1](self)
        return made if isinstance(made, tuple) else (made, made.ndim)


def _tall(p):
    there = [i for i in p.g.inputs if len(i.dims) == 2 and i.dims[0] == p.dim and i.kind == "normal"]
    return p.g.pick(there).var if there else p.u()


def _scaled(p):
    x = p.y()
    return p.g.one_of(lambda: -0.5 * x, lambda: x / p.s(), lambda: -x, lambda: x - p.g.input(()))


def _constant(p):
    return p.constant((p.dim,)) if p.g.known(p.dim) else p.y()


COLUMNS = {
    "matrix": (3, lambda p: p.g.input((p.dim, "m"))),
    "one column": (1, lambda p: p.g.input((p.dim, 1))),
    "U": (1, _tall),
    "y[:, None]": (1, lambda p: p.y()[:, None]),
}
VECTORS = {
    "vector": (3, lambda p: p.y()),
    "scaled": (1, _scaled),
    "slice": (0.4, lambda p: p.g.input((p.dim, 3))[:, 1]),
}
RHS = {
    **VECTORS,
    **COLUMNS,
    "batch of vectors": (0.8, lambda p: (p.g.input(("b", p.dim)), 1)),
    "constant": (0.4, _constant),
    "sin": (0.6, lambda p: pt.sin(p.y())),
    "integer": (0.3, lambda p: p.g.input((p.dim,), "int", dtype=p.g.pick(["int64", "int8"]))),
    "float32": (0.3, lambda p: p.g.input((p.dim,), dtype="float32")),
    "stack": (0.3, lambda p: pt.stack([p.y(), p.y()], axis=1)),
}
