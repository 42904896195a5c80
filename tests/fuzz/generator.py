"""What every spelling draws from: sizes, dtypes, inputs and their values."""

import collections
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt

from fuzz.choices import Choices
from fuzz.values import INTEGER_KINDS, draw

MOST_INPUTS = 13


class Skip(Exception):
    """This graph is not worth a judgement."""


@dataclass
class Input:
    """An input of the graph; ``dims`` are lengths or expressions of named lengths ("n", "n+p")."""

    var: Any
    dims: tuple
    kind: str
    scale: float = 1.0
    frozen: bool = False  # not to be differentiated
    shared: bool = False


@dataclass
class Matrix:
    """A matrix of order ``dim``, and what the generator knows of it.

    ``thin``: a diagonal plus a low rank. ``triangle``: the only triangle that holds the matrix ("lower",
    "upper"). ``singular``: it may be, and only what stays defined may be asked of it.
    """

    var: Any
    dim: str
    spd: bool = False
    sym: bool = False
    thin: bool = False
    triangle: str = ""
    singular: bool = False


class Generator(Choices):
    """The state of one random graph: its lengths, its inputs, what was asked and what was noted."""

    def __init__(self, seed):
        super().__init__("graph", seed)
        self.seed = seed
        self.tags: collections.Counter = collections.Counter()
        self.log: list[str] = []
        self.inputs: list[Input] = []
        self.requests: list[str] = []
        self.solved: list[Any] = []  # matrices whose condition limits the accuracy
        self.all_thin = True
        self._condition_function = None
        self.dims = self._lengths()
        style = self.pick({"static": 0.5, "unknown": 0.2, "mixed": 0.12, "each": 0.18})
        self.modes = {
            d: style if style != "each" else self.pick(["static", "unknown", "mixed"]) for d in self.dims
        }
        self.dtype = self.pick({"float64": 0.82, "float32": 0.09, "mixed": 0.09})
        self.used_dtypes: set[str] = set()
        self.hard = self.chance(0.12)
        self.use_shared = self.chance(0.08)
        self.assume_tags = self.chance(0.3)
        self.tag(f"shapes:{style}")
        self.tag(f"dtype:{self.dtype}")
        if self.hard:
            self.tag("ill-conditioned values")

    def _lengths(self):
        small = {1: 0.03, 2: 0.07, 3: 0.1, 4: 0.1, 5: 0.15, 7: 0.15, 8: 0.15, 11: 0.15, 13: 0.1}
        n = self.pick([17, 23, 31, 40, 59]) if self.chance(0.12) else self.pick(small)
        k = self.pick([1, 2, 3, 4])
        if self.chance(0.85):
            k = max(1, min(k, n // 2))
        rest = {d: self.pick([1, 2, 3]) for d in "mbp"}
        return {"n": n, "k": k, **rest, "q": self.pick([1, 2]), "J": self.pick({2: 2, 5: 2, 40: 1})}

    # -- notes --------------------------------------------------------------------------------------

    def note(self, text):
        self.log.append(text)

    def tag(self, text):
        self.tags[text] += 1

    def choose(self, family, table, weights=None):
        """The name of an entry of a table of spellings, noted and counted."""
        name = self.pick(list(table), weights)
        self.tag(f"{family}:{name}")
        self.note(f"{family}[{name}]")
        return name

    # -- lengths ------------------------------------------------------------------------------------

    def length(self, expr, dims=None):
        """The value of a length."""
        return evaluate(expr, dims or self.dims)

    def known(self, expr):
        """Whether the length may be used at compile time."""
        return isinstance(expr, int) or all(self.modes[d] != "unknown" for d in _names(expr))

    def static(self, expr):
        """A static length for a type, or None."""
        if isinstance(expr, int):
            return expr
        modes = {self.modes[d] for d in _names(expr)}
        if "unknown" in modes or ("mixed" in modes and self.chance(0.5)):
            return None
        return self.length(expr)

    def size(self, expr):
        """The length as a Python int, or as a symbolic scalar where it is not known."""
        if self.known(expr):
            return self.length(expr)
        for i in self.inputs:
            for axis, d in enumerate(i.dims):
                if d == expr and self.chance(0.7):
                    return i.var.shape[axis]
        return self.input((expr,)).shape[0]

    # -- inputs -------------------------------------------------------------------------------------

    def float_dtype(self):
        return self.dtype if self.dtype != "mixed" else self.pick({"float64": 0.6, "float32": 0.4})

    def input(self, dims, kind="normal", *, reuse=0.35, dtype=None, scale=1.0, frozen=False):
        """An input variable, at times one that is there already."""
        dims = tuple(dims)
        there = [
            i
            for i in self.inputs
            if (i.dims, i.kind, i.scale) == (dims, kind, scale) and dtype in (None, i.var.type.dtype)
        ]
        if there and self.chance(reuse):
            return self.pick(there).var
        if len(self.inputs) > MOST_INPUTS:
            raise Skip("too many inputs")
        dtype = dtype or ("bool" if kind == "bool" else self.float_dtype())
        if dtype.startswith("float"):
            self.used_dtypes.add(dtype)
        frozen = frozen or kind in INTEGER_KINDS or kind.endswith("half")
        shape = tuple(self.static(d) for d in dims)
        name = f"{kind[0] if kind != 'normal' else 'x'}{len(self.inputs)}" if self.chance(0.85) else None
        shared = self.use_shared and self.chance(0.3) and not frozen
        if shared:
            self.tag("shared variable")
            value = draw(np.random.RandomState(1), tuple(map(self.length, dims)), kind)
            var = pytensor.shared(np.asarray(value).astype(dtype), shape=shape, name=name)
        else:
            var = pt.tensor(name, shape=shape, dtype=dtype)
        var.name = name
        self.inputs.append(Input(var, dims, kind, scale, frozen, shared))
        return var

    def at(self, dim, k="k"):
        """The pieces of spellings of order ``dim`` and rank ``k``."""
        return Parts(self, dim, k)

    # -- values -------------------------------------------------------------------------------------

    def other_lengths(self):
        """Lengths for a second call, None where all are known when compiling."""
        free = [d for d in self.dims if self.modes[d] == "unknown"]
        if not free:
            return None
        n = {0: 0.04, 1: 0.1, 2: 0.12, 3: 0.14, 6: 0.15, 9: 0.15, 14: 0.15, 25: 0.15}
        k = {0: 0.05, 1: 0.25, 2: 0.2, 3: 0.2, 5: 0.2, 8: 0.1}
        rest = {0: 0.05, 1: 0.35, 2: 0.3, 4: 0.3}
        return {**self.dims, **{d: self.pick({"n": n, "k": k}.get(d, rest)) for d in free}}

    def values(self, dims, number):
        """One value per input, a function of seed, lengths and number."""
        r = Choices("values", self.seed, number).numbers()
        out = []
        for i in self.inputs:
            shape = tuple(self.length(d, dims) for d in i.dims)
            value = draw(r, shape, i.kind, self.hard) * (1 if i.kind in INTEGER_KINDS else i.scale)
            out.append(np.asarray(value).astype(i.var.type.dtype))
        return out

    def condition(self, values):
        """The largest condition number of a matrix that is solved, inverted or factorised."""
        if not self.solved:
            return 1.0
        try:
            if self._condition_function is None:
                from fuzz.compiling import RAW

                variables = [i.var for i in self.inputs if not i.shared]
                self._condition_function = pytensor.function(
                    variables, self.solved, mode=RAW, on_unused_input="ignore"
                )
            with np.errstate(all="ignore"):
                matrices = [np.asarray(m, dtype=float) for m in self._condition_function(*values)]
            usable = [m for m in matrices if m.size and np.isfinite(m).all()]
            worst = max([1.0, *(float(np.max(np.linalg.cond(m))) for m in usable)])
            return worst if len(usable) == len(matrices) else max(worst, 1e3)
        except Exception:  # a matrix that cannot be formed says nothing: a moderate guess
            return 1e3


class Parts:
    """Pieces that spellings of one order share: ``d`` a vector, ``s`` a scalar, ``u`` a tall matrix, ..."""

    def __init__(self, g, dim, k="k", sign="positive"):
        self.g, self.dim, self.k, self.sign = g, dim, k, sign

    @property
    def order(self):
        return self.g.size(self.dim)

    @property
    def rank(self):
        return self.g.size(self.k)

    @property
    def known(self):
        """Whether order and rank are known when compiling."""
        return self.g.known(self.dim) and self.g.known(self.k)

    def s(self, **options):
        return self.g.input((), "positive", **options)

    def d(self, kind=None):
        return self.g.input((self.dim,), kind or self.sign)

    def w(self, kind=None):
        return self.g.input((self.k,), kind or self.sign)

    def y(self, **options):
        return self.g.input((self.dim,), **options)

    def u(self, **options):
        return self.g.input((self.dim, self.k), **options)

    def v(self, **options):
        return self.g.input((self.k, self.dim), **options)

    def square(self, kind="general", **options):
        return self.g.input((self.dim, self.dim), kind, **options)

    def core(self):
        return self.g.input((self.k, self.k))

    def eye(self, dtype=None):
        return pt.eye(self.order, dtype=dtype or self.g.float_dtype())

    def zeros(self):
        return pt.zeros((self.order, self.order), dtype=self.g.float_dtype())

    def constant(self, shape, kind="normal"):
        value = draw(self.g.numbers(), tuple(map(self.g.length, shape)), kind)
        return pt.constant(value.astype(self.g.float_dtype()))


def evaluate(expr, dims):
    """The value of "n", "n+p", "n*q", "n-1"."""
    return expr if isinstance(expr, int) else int(eval(expr, {"__builtins__": {}}, dict(dims)))


def _names(expr):
    return set(re.findall("[a-zA-Z]", str(expr)))
