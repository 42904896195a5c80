"""The problems of the regret benchmark: plain data, and the graph of each kind (`regret_structures`, too).

A ``Case`` is a kind, a dtype and sizes; ``KINDS`` says how its graph is written and from which ranges
its sizes are drawn. Sizes are not static in the graphs but given to the policy as hints: the choice is
that for static shapes, and one compiled function serves every size of its kind from Numba's disk
cache, without which 150 problems would compile for hours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt
import regret_structures as structures
from pytensor.assumptions import assume
from scipy.stats import qmc

from calibration.grids import grid
from cost_models import KERNELS

DTYPES = ("float64", "float32")
N = (50, 2000)
BY_USER, BY_TUNE = "by the user", "by tune"


@dataclass(frozen=True)
class Case:
    """One problem: ``kind`` is a key of ``KINDS``, ``seed`` that of its values."""

    kind: str
    dtype: str
    sizes: dict[str, int]
    seed: int

    @property
    def label(self) -> str:
        sizes = " ".join(f"{name}={size}" for name, size in self.sizes.items())
        return f"{self.kind} {sizes} {self.dtype}"


@dataclass(frozen=True)
class Graph:
    """``outputs`` of ``inputs`` at ``values``. With ``wrt``, the one output is to be differentiated.

    ``sizes``: hints for the policy. ``tuned``: ``autotune.tune`` comes before the gradient.
    """

    inputs: list[Any]
    outputs: list[Any]
    values: list[np.ndarray]
    sizes: dict[str, int]
    wrt: tuple[Any, ...] = ()
    tuned: bool = False


@dataclass(frozen=True)
class Kind:
    """``write(draft, **sizes)`` gives the outputs and what they may be differentiated by.

    ``sizes``: the range of each, drawn log-uniformly; None as upper end stands for n - 1.
    """

    write: Callable[..., tuple[list[Any], tuple[Any, ...]]]
    sizes: dict[str, tuple[int, int | None]]
    gradient: str = ""


class Draft:
    """Makes named inputs of one dtype together with their values."""

    def __init__(self, dtype: str, seed: int):
        self.dtype, self.rng = dtype, np.random.default_rng(seed)
        self.inputs: list[Any] = []
        self.values: list[np.ndarray] = []
        self.hints: dict[str, int] = {}

    def input(self, name: str, value: Any) -> Any:
        """An input of unknown shape with this value."""
        value = np.asarray(value, dtype=self.dtype)
        variable = pt.tensor(name, shape=(None,) * value.ndim, dtype=self.dtype)
        self.inputs.append(variable)
        self.values.append(value)
        return self.named(name, variable, *value.shape)

    def normal(self, name: str, *shape: int) -> Any:
        return self.input(name, self.rng.normal(size=shape))

    def fixed(self, name: str, value: Any) -> Any:
        """An input of static shape."""
        self.input(name, value)
        variable = pt.tensor(name, shape=self.values[-1].shape, dtype=self.dtype)
        self.inputs[-1] = variable
        return variable

    def known(self, value: Any) -> Any:
        """A constant."""
        return pt.constant(np.asarray(value, dtype=self.dtype))

    def spd(self, n: int, condition: float) -> np.ndarray:
        """Values of a symmetric positive definite matrix."""
        return with_condition(self.rng, n, condition)

    def named(self, name: str, variable: Any, *shape: int) -> Any:
        """The same variable, its name and sizes known to the policy."""
        variable.name = name
        self.hints |= {f"{name}[{axis}]": size for axis, size in enumerate(shape)}
        return variable

    def covariance(self, name: str, n: int, condition: float = 10.0) -> Any:
        """Symmetric positive definite input of a given condition number, tagged."""
        return assume(self.input(name, with_condition(self.rng, n, condition)), positive_definite=True)


def with_condition(rng: np.random.Generator, n: int, condition: float) -> np.ndarray:
    """``Q diag(e) Q`` with e geometric from 1 to ``condition`` and Q a random Householder reflection."""
    v = rng.normal(size=n)
    v *= math.sqrt(2) / np.linalg.norm(v)
    e = np.geomspace(1, condition, n)
    Qe = np.diag(e) - np.outer(v, v * e)
    return Qe - np.outer(Qe @ v, v)


# -- the graphs -----------------------------------------------------------------------------------


def gaussian_process(draft, n, *, tagged=True):
    """Marginal likelihood of a Gaussian process with an RBF kernel and three hyperparameters."""
    X, y = draft.normal("X", n, 2), draft.normal("y", n)
    scale, noise, height = (
        draft.input(*given) for given in (("scale", 1.0), ("noise", 0.5), ("height", 1.2))
    )
    distance = ((X[:, None, :] - X[None, :, :]) ** 2).sum(axis=-1)
    rbf = height**2 * pt.exp(-0.5 * distance / scale**2)
    K = draft.named("K", rbf + noise**2 * pt.eye(X.shape[0], dtype=draft.dtype), n, n)
    if tagged:
        K = assume(K, positive_definite=True)
    loss = -0.5 * y @ pt.linalg.inv(K) @ y - 0.5 * pt.linalg.slogdet(K)[1]
    return [loss], (scale, noise, height)


def untagged_kernel(draft, n):
    """The same without the tag: symmetric, and nobody says that it is positive definite."""
    return gaussian_process(draft, n, tagged=False)


def low_rank(draft, n, k):
    """Gaussian log-likelihood with covariance ``U U' + diag(d)``."""
    U, y = draft.normal("U", n, k), draft.normal("y", n)
    d = draft.input("d", draft.rng.uniform(0.5, 2, n))
    K = assume(draft.named("K", U @ U.T + pt.diag(d), n, n), positive_definite=True)
    loss = -0.5 * y @ pt.linalg.solve(K, y) - 0.5 * pt.linalg.slogdet(K)[1]
    return [loss], (U, d)


def solve_and_logdet(draft, n):
    """One solve and the log-determinant of a positive definite matrix."""
    P, b = draft.covariance("A", n), draft.normal("b", n)
    return [pt.linalg.solve(P, b), pt.linalg.slogdet(P)[1]], ()


def solves(draft, n, m, condition):
    """Two solves with one positive definite matrix, m right-hand sides each, and nothing else."""
    P = draft.covariance("A", n, condition)
    return [pt.linalg.solve(P, draft.normal(name, n, m)) for name in "BC"], ()


def quadratic_forms(draft, n, m):
    """Solves with many right-hand sides, quadratic forms and log-determinant, positive definite."""
    P, B = draft.covariance("A", n), draft.normal("B", n, m)
    solved = pt.linalg.solve(P, B)
    return [solved, (B * solved).sum(axis=0), pt.linalg.slogdet(P)[1]], ()


def general(draft, n, m):
    """Solves with a general matrix and its transpose, and its log-determinant."""
    A, B = draft.normal("A", n, n), draft.normal("B", n, m)
    return [pt.linalg.solve(A, B), *pt.linalg.slogdet(A), pt.linalg.solve(A.T, B)], ()


def batch(draft, n, batch):
    """Inverses, solves and log-determinants of a batch of positive definite matrices."""
    B = draft.normal("B", batch, n, 2)
    A = draft.input("A", [with_condition(draft.rng, n, 10.0) for _ in range(batch)])
    P = assume(A, positive_definite=True)
    return [pt.linalg.inv(P), pt.linalg.solve(P, B, b_ndim=2), pt.linalg.slogdet(P)[1]], ()


def batch_general(draft, n, batch):
    """Solves and log-determinants of a batch of general matrices."""
    A, B = draft.normal("A", batch, n, n), draft.normal("B", batch, n, 2)
    return [pt.linalg.solve(A, B, b_ndim=2), *pt.linalg.slogdet(A)], ()


def inverse(draft, n):
    """Inverse and log-determinant of a positive definite matrix."""
    P = draft.covariance("A", n)
    return [pt.linalg.inv(P), pt.linalg.slogdet(P)[1]], ()


def inverse_general(draft, n):
    """Inverse and log-determinant of a general matrix."""
    A = draft.normal("A", n, n)
    return [pt.linalg.inv(A), *pt.linalg.slogdet(A)], ()


_LOW_RANK: dict[str, tuple[int, int | None]] = {"n": (100, 2000), "k": (1, None)}
_FACTORS: dict[str, tuple[int, int | None]] = {"n": (100, 2000), "k": (2, 20)}
_SMALL: dict[str, tuple[int, int | None]] = {"n": (3, 60), "batch": (2, 60)}
KINDS: dict[str, Kind] = {
    "GP": Kind(gaussian_process, {"n": N}),
    "GP gradient": Kind(gaussian_process, {"n": N}, BY_USER),
    "untagged kernel": Kind(untagged_kernel, {"n": N}),
    "untagged kernel gradient": Kind(untagged_kernel, {"n": N}, BY_USER),
    "low rank": Kind(low_rank, _LOW_RANK),
    "low rank gradient": Kind(low_rank, _LOW_RANK, BY_USER),
    "low rank tuned": Kind(low_rank, _LOW_RANK, BY_TUNE),
    "PD solve, logdet": Kind(solve_and_logdet, {"n": N}),
    "PD solves": Kind(solves, {"n": N, "m": (1, 50), "condition": (10, 300)}),
    "PD quadratic forms": Kind(quadratic_forms, {"n": N, "m": (1, 1000)}),
    "general": Kind(general, {"n": N, "m": (1, 50)}),
    "PD batch": Kind(batch, _SMALL),
    "general batch": Kind(batch_general, _SMALL),
    "PD inverse": Kind(inverse, {"n": N}),
    "general inverse": Kind(inverse_general, {"n": N}),
    "animal model": Kind(structures.animal_model, {"n": N}, BY_USER),
    "autoregression": Kind(structures.autoregression, {"n": N}, BY_USER),
    "mixed model": Kind(structures.mixed_model, _FACTORS, BY_USER),
    "Kronecker plus noise": Kind(structures.kronecker_noise, _FACTORS, BY_USER),
    "Kronecker plus low rank": Kind(structures.kronecker_update, _FACTORS, BY_USER),
    "triangle": Kind(structures.triangle, {"n": N}, BY_USER),
    "scaled correlation": Kind(structures.scaled_correlation, {"n": N}, BY_USER),
    "bands": Kind(structures.bands, {"n": N, "k": (1, 8)}, BY_USER),
    "line": Kind(structures.line, {"n": N}, BY_USER),
    "grid": Kind(structures.grid, _FACTORS, BY_USER),
    "equal points": Kind(structures.equal_points, _FACTORS, BY_USER),
    "blocks": Kind(structures.blocks, {"n": N}, BY_USER),
    "batch of pencils": Kind(structures.pencils, {"n": (3, 200), "batch": (2, 60)}, BY_USER),
}


def build(case: Case) -> Graph:
    """The graph of a case with values for its inputs."""
    kind, draft = KINDS[case.kind], Draft(case.dtype, case.seed)
    outputs, parameters = kind.write(draft, **case.sizes)
    wrt = parameters if kind.gradient else ()
    return Graph(draft.inputs, outputs, draft.values, draft.hints, wrt, kind.gradient == BY_TUNE)


# -- drawing --------------------------------------------------------------------------------------


def draw(repeats: int, seed: int, largest: int = N[1]) -> Iterator[Case]:
    """``repeats`` cases of every kind and dtype, orders of magnitude evenly covered in each of these strata.

    Latin hypercubes (McKay, Beckman & Conover 1979) over the logarithms of the sizes; no n is one of
    those that the calibration times, none exceeds ``largest``. The order goes through all strata again
    and again, so that an interrupted run is balanced.
    """
    taken = calibrated_sizes()
    strata = [(kind, dtype) for kind in KINDS for dtype in DTYPES]
    rngs = np.random.default_rng(seed).spawn(len(strata))
    points = [
        qmc.LatinHypercube(len(KINDS[kind].sizes), rng=rng).random(repeats)
        for (kind, _), rng in zip(strata, rngs, strict=True)
    ]
    for i in range(repeats):
        for number, ((kind, dtype), cube) in enumerate(zip(strata, points, strict=True)):
            sizes = scaled(KINDS[kind].sizes, cube[i], largest, taken)
            yield Case(kind, dtype, sizes, seed=1000 * seed + i * len(strata) + number)


def scaled(ranges, point, largest, taken) -> dict[str, int]:
    """A point of the unit cube as sizes, n (which comes first) moved off the ``taken`` ones."""
    sizes: dict[str, int] = {}
    for (name, (low, high)), u in zip(ranges.items(), point, strict=True):
        if name == "n":
            low, high = min(low, largest), min(high, largest)
        top = sizes["n"] - 1 if high is None else high
        size = round(low * (top / low) ** u)
        sizes[name] = next_free(size, taken) if name == "n" else size
    return sizes


def next_free(size: int, taken: frozenset[int]) -> int:
    """The next size that is not taken."""
    while size in taken:
        size += 1
    return size


def calibrated_sizes() -> frozenset[int]:
    """Every length of any side that a full calibration times."""
    return frozenset(side for kernel in KERNELS for dims in grid(kernel.name, quick=False) for side in dims)
