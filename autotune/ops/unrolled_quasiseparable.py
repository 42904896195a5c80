"""The loops of `core_quasiseparable` for few states, whose numbers then stay in registers.

What happens at a point is done once with the names of numbers, by the functions of `core_quasiseparable`, and
so written down; that is what the loop over the points repeats. One column at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autotune.ops import core_quasiseparable as core

MOST_STATES = 8
"""More than these, and registers do not hold them; compiling takes long."""

MOST_COLUMNS = 4
"""With more the loops over them are vectorised."""


class Name:
    """A number that is known by name. What is computed of it is one more line, and one more name."""

    def __init__(self, lines: list[str], text: str) -> None:
        self.lines, self.text = lines, text

    def __str__(self) -> str:
        return self.text

    def _made(self, text: str) -> Name:
        made = Name(self.lines, f"t{len(self.lines)}")
        self.lines.append(f"{made} = {text}")
        return made

    def __add__(self, other):
        return self if is_number(other, 0) else self._made(f"{self} + {other}")

    def __radd__(self, other):
        return self if is_number(other, 0) else self._made(f"{other} + {self}")

    def __sub__(self, other):
        return self if is_number(other, 0) else self._made(f"{self} - {other}")

    def __rsub__(self, other):
        return self._made(f"{other} - {self}")

    def __mul__(self, other):
        if is_number(other, 0):
            return 0.0
        return self if is_number(other, 1) else self._made(f"{self} * {other}")

    __rmul__ = __mul__

    def __truediv__(self, other):
        return self._made(f"{self} / {other}")

    def __rtruediv__(self, other):
        return self._made(f"{other} / {self}")


def is_number(x, value: float) -> bool:
    return not isinstance(x, Name) and x == value


class Point:
    """What happens at a point of ``sizes`` states in blocks, as lines of Python."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = np.array(sizes)
        self.r = int(self.sizes.sum())
        self.lines: list[str] = []
        self.first, self.last = core.blocks_of(self.sizes, self.r)
        self.starts = core.starts_of(self.sizes)
        self.q = core.first_states(self.sizes, self.r)
        self.c = self.names("c{}", self.r)

    def name(self, text: str) -> Name:
        return Name(self.lines, text)

    def read(self, text: str) -> Name:
        """What is read from an array once."""
        return self.name(text)._made(text)

    def names(self, pattern: str, *shape: int) -> np.ndarray:
        found = np.empty(shape, object)
        for index in np.ndindex(*shape):
            found[index] = self.name(pattern.format(*index))
        return found

    def row(self, array: str, count: int) -> np.ndarray:
        """What is read from the row of the point."""
        return np.array([self.read(f"{array}[i, {a}]") for a in range(count)], object)

    def symmetric(self, letter: str) -> np.ndarray:
        """The names of its lower triangle in both triangles."""
        found = self.names(letter + "{}{}", self.r, self.r)
        for a, b in zip(*np.triu_indices(self.r, 1), strict=True):
            found[a, b] = found[b, a]
        return found

    def transition(self) -> np.ndarray:
        A = np.zeros((self.r, self.r), object)
        E = self.row("E", self.sizes.size)[None]
        core.transition(A, self.read("steps[i]"), E, 0, self.sizes)
        return A

    def write(self, *lines: str) -> None:
        self.lines.extend(lines)

    def keep(self, old: np.ndarray, new: np.ndarray) -> None:
        """The new numbers go by the old names at the next point."""
        pairs = {str(name): value for name, value in zip(old.ravel(), new.ravel(), strict=True)}
        changed = [(name, value) for name, value in pairs.items() if name != str(value)]
        if changed:
            self.write(f"{', '.join(n for n, _ in changed)} = {', '.join(str(v) for _, v in changed)}")

    def store(self, target: str, values: np.ndarray) -> None:
        """Into the row of an array that has the point's number."""
        for place, value in enumerate(values.ravel()):
            self.write(f"{target}[i, {place}] = {value}")

    def taken(self) -> list[str]:
        """The lines so far, of which none are left: for the next loop."""
        lines, self.lines[:] = list(self.lines), []
        return lines


def zeros(*arrays: np.ndarray) -> list[str]:
    return [f"{name} = 0.0" for name in dict.fromkeys(str(x) for array in arrays for x in array.ravel())]


def numbers(array: str, count: int) -> list[str]:
    return [f"{array}{a} = np.float64({array}[{a}])" for a in range(count)]


def function(head: str, *body: str | list[str]) -> str:
    """The source of a function; lists are what is in the loop that stands before them."""
    lines = [f"def {head}:"]
    for part in body:
        if isinstance(part, str):
            lines.append(f"    {part}")
        else:
            indent = len(lines[-1]) - len(lines[-1].lstrip()) + 4
            lines.extend(" " * indent + line for line in part)
    return "\n".join(lines) + "\n"


UP, DOWN = "for i in range(n):", "for i in range(n - 1, -1, -1):"


def factor(sizes: Sequence[int]) -> str:
    p = Point(sizes)
    F, v = p.symmetric("F"), np.empty(p.r, object)
    new = F.copy()
    core.advance_both(p.transition(), p.first, new)
    pivot = core.condense(new, p.c, p.q, p.name("np.float64(d[i])"), v)
    p.write(
        f"pivot = {pivot}",
        "if not pivot > 0:",
        "    D[:] = np.nan",
        "    V[:] = np.nan",
        "    return D, V, E, np.nan, np.nan",
        "D[i] = pivot",
        "scale = 1 / pivot",
        "ahead = product * pivot",
        "if not 1e-100 < ahead < 1e100:",  # a logarithm takes longer than all the rest
        "    logdet += np.log(product) + np.log(pivot)",
        "    ahead = 1.0",
        "product = ahead",
    )
    scale = p.name("scale")
    core.admit(new, v, scale)
    p.store("V", v * scale)
    p.keep(F, new)
    return function(
        "factor(d, steps, c, rates, sizes, powers)",
        f"n, r = d.size, {p.r}",
        "E = decays(steps, rates, powers)",
        "D, V = np.empty(n, d.dtype), np.empty((n, r), d.dtype)",
        *numbers("c", p.r),
        *zeros(F),
        "logdet, product = 0.0, 1.0",
        UP,
        p.taken(),
        "return D, V, E, 1.0, logdet + np.log(product)",
    )


def solve(sizes: Sequence[int]) -> str:
    p = Point(sizes)
    state = p.names("s{}", p.r, 1)
    new = state.copy()
    core.advance(p.transition(), p.first, new)
    total = p.name("np.float64(B[i, k])") - core.weighted(p.c, new, 0)
    p.write(f"X[i, k] = {total} / D[i]")
    core.add(new, 0, p.row("V", p.r), total)
    p.keep(state, new)
    forward = p.taken()
    new = state.copy()
    total = p.name("np.float64(X[i, k])") - core.weighted(p.row("V", p.r), new, 0)
    p.write(f"X[i, k] = {total}")
    core.add(new, 0, p.c, total)
    core.retreat(p.transition(), p.last, new)
    p.keep(state, new)
    return function(
        "solve(D, V, E, steps, c, sizes, B)",
        "n, m = B.shape",
        "X = np.empty((n, m), B.dtype)",
        *numbers("c", p.r),
        "for k in range(m):",
        [*zeros(state), UP, *indented(forward), *zeros(state), DOWN, *indented(p.taken())],
        "return X",
    )


def logdet_pullback(sizes: Sequence[int]) -> str:
    p = Point(sizes)
    F, lower = p.symmetric("F"), np.tril_indices(p.r)
    new = F.copy()
    core.advance_both(p.transition(), p.first, new)
    p.store("states", new[lower])
    core.admit(new, p.row("V", p.r), p.read("np.float64(D[i])"))
    p.keep(F, new)
    forward = p.taken()
    before = p.symmetric("F")
    for place, name in enumerate(F[lower]):
        p.write(f"{name} = states[i, {place}]")
    F_bar, c_bar, rates_bar = p.symmetric("G"), p.names("c_bar{}", p.r), p.names("b{}", p.sizes.size)
    new, new_c = F_bar.copy(), c_bar.copy()
    v_bar = np.empty(p.r, object)
    w, pivot = p.row("V", p.r), p.read("np.float64(D[i])")
    p.write(f"d_bar[i] = {core.uncondense(before, new, p.c, w, pivot, new_c, v_bar)}")
    by_rates = [core.inner(p.starts[b], p.starts[b + 1], new, before) for b in range(p.sizes.size)]
    p.keep(rates_bar, rates_bar + slopes(p) * np.array([2 * x for x in by_rates], object))
    core.retreat_both(p.transition(), p.last, new)
    p.keep(F_bar, new)
    p.keep(c_bar, new_c)
    return function(
        "logdet_pullback(D, V, E, steps, c, rates, sizes, powers)",
        "n, d_bar = D.size, np.empty_like(D)",
        f"states = np.empty((n, {len(lower[0])}))",
        *numbers("c", p.r),
        *zeros(F, F_bar, c_bar, rates_bar),
        UP,
        forward,
        DOWN,
        p.taken(),
        *gathered(c_bar, rates_bar, "D.dtype"),
    )


def dot(sizes: Sequence[int]) -> str:
    p = Point(sizes)
    state = p.names("s{}", p.r, 1)
    new, x = state.copy(), p.read("np.float64(X[i, k])")
    core.advance(p.transition(), p.first, new)
    p.write(f"Y[i, k] = d[i] * {x} + {core.weighted(p.c, new, 0)}")
    core.add(new, 0, p.q, x)
    p.keep(state, new)
    forward = p.taken()
    new, x = state.copy(), p.read("np.float64(X[i, k])")
    p.write(f"Y[i, k] += {core.weighted(p.q, new, 0)}")
    core.add(new, 0, p.c, x)
    core.retreat(p.transition(), p.last, new)
    p.keep(state, new)
    return function(
        "dot(d, steps, c, rates, sizes, powers, X)",
        "n, m = X.shape",
        "Y, E = np.empty((n, m), X.dtype), decays(steps, rates, powers)",
        *numbers("c", p.r),
        "for k in range(m):",
        [*zeros(state), UP, *indented(forward), *zeros(state), DOWN, *indented(p.taken())],
        "return Y",
    )


def outer(sizes: Sequence[int]) -> str:
    p = Point(sizes)
    state, c_bar, rates_bar = p.names("s{}{}", p.r, 2), p.names("c_bar{}", p.r), p.names("b{}", p.sizes.size)
    sides = np.array([p.name("x"), p.name("y")], object)  # the left and the right one
    read = ("x = np.float64(left[i, k])", "y = np.float64(right[i, k])")
    p.write(*read, "d_bar[i] += x * y")
    new = state.copy()
    core.advance(p.transition(), p.first, new)
    p.store("states", new)
    p.keep(c_bar, c_bar + new @ sides)
    for column in (0, 1):
        core.add(new, column, p.q, sides[1 - column])
    p.keep(state, new)
    forward = p.taken()
    p.write(*read)
    new = state.copy()
    for column in (0, 1):
        core.add(new, column, p.c, sides[column])
    before = p.row("states", 2 * p.r).reshape(p.r, 2)
    by_rates = [core.inner(p.starts[b], p.starts[b + 1], new, before) for b in range(p.sizes.size)]
    p.keep(rates_bar, rates_bar + slopes(p) * np.array(by_rates, object))
    core.retreat(p.transition(), p.last, new)
    p.keep(state, new)
    return function(
        "outer(left, right, steps, c, rates, sizes, powers)",
        "n, m = left.shape",
        "E, d_bar = decays(steps, rates, powers), np.zeros(n)",
        f"states = np.empty((n, {2 * p.r}))",
        *numbers("c", p.r),
        *zeros(c_bar, rates_bar),
        "for k in range(m):",
        [*zeros(state), UP, *indented(forward), *zeros(state), DOWN, *indented(p.taken())],
        *gathered(c_bar, rates_bar, "left.dtype"),
    )


def slopes(p: Point) -> np.ndarray:
    return np.array(
        [p.name(f"slope(steps[i], rates[{b}], powers[{b}])") for b in range(p.sizes.size)], object
    )


def indented(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]


def gathered(c_bar: np.ndarray, rates_bar: np.ndarray, dtype: str) -> list[str]:
    """The end of a function that returns d_bar and these."""
    c, rates = ("[" + ", ".join(map(str, array)) + "]" for array in (c_bar, rates_bar))
    return [f"return d_bar.astype({dtype}), np.array({c}).astype({dtype}), np.array({rates}).astype({dtype})"]


SOURCES = {f.__name__: f for f in (factor, solve, logdet_pullback, dot, outer)}
