"""However small the noise: Woodbury's values and gradients are as exact as plain PyTensor's, up to ten times.

Errors are the largest of several random problems of one kind, since single rounding errors are luck, and
relative to the largest entry of each answer and of each gradient. Where plain PyTensor has no digit left
there is nothing to compare, and where it has less than four, another BLAS kernel alone moves its error by ten
times: up to a hundred times there. ``little_noise`` holds the problems and the exact answers.
"""

from functools import cache

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import FORCE_WOODBURY, chosen, compile_plain, compile_with, relative_error
from little_noise import INDEFINITE, KINDS, NAMES, RANKS, REQUESTS, K, N, exact, graph, problem

import autotune

NOISES = (1.0, 1e-4, 1e-8, 1e-11, 1e-14)
BETWEEN = (1e-4, 1e-11)
SEEDS = range(3)
FLOOR = 8 * N * np.finfo(float).eps


@cache
def compiled(request, k, positive_definite, door):
    """``f(*values of NAMES, weights) -> answer, gradients``, plain or through a door of the pass."""
    inputs, g, answer, cost = graph(request, k, positive_definite)
    if door == "tune":
        answer = autotune.tune(answer, FORCE_WOODBURY)
        cost = (g * answer).sum()
    outputs = [answer, *pt.grad(cost, inputs, disconnected_inputs="ignore")]
    if door == "plain":
        return compile_plain([*inputs, g], outputs)
    fn = compile_with([*inputs, g], outputs, FORCE_WOODBURY)
    assert set(chosen(fn)) == {"woodbury"}
    return fn


def errors(request, kind, noise, door):
    """Of the answer and the gradients by ``NAMES``, the largest over ``SEEDS``."""
    fn = compiled(request, RANKS.get(kind, K), kind not in INDEFINITE, door)
    found = []
    for seed in SEEDS:
        g, answer, gradients = exact(kind, noise, seed)[request]
        values = problem(kind, noise, seed)
        results = fn(*(values[name] for name in NAMES), g)
        pairs = zip(results, [answer, *gradients], strict=True)
        found.append([relative_error(a, e) if np.any(e) else np.abs(a).max() for a, e in pairs])
    return np.max(found, axis=0)


def check(request, kind, noise, door):
    plain, found = (errors(request, kind, noise, d) for d in ("plain", door))
    lost = np.isnan(plain) | (plain > 0.1)
    times = np.where(plain > 1e-4, 100, 10)
    allowed = np.where(lost, np.inf, times * plain + FLOOR)
    assert (np.nan_to_num(found) <= allowed).all(), dict(
        zip(("answer", *NAMES), np.stack([found, plain], 1), strict=True)
    )


@pytest.mark.parametrize(
    "noise", [pytest.param(n, marks=[pytest.mark.slow] if n in BETWEEN else []) for n in NOISES]
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("door", ["mode", "tune"])
@pytest.mark.parametrize("request_", REQUESTS)
def test_as_exact_as_plain_pytensor(request_, door, kind, noise):
    check(request_, kind, noise, door)


# Of indefinite matrices a factorisation of K itself may lose ten times more than another one does, by luck.
OTHERS = [(kind, noise) for kind in RANKS for noise in NOISES]
OTHERS += [(kind, noise) for kind in INDEFINITE for noise in NOISES[:3]]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "noise"), OTHERS)
@pytest.mark.parametrize("door", ["mode", "tune"])
@pytest.mark.parametrize("request_", REQUESTS)
def test_as_exact_for_any_rank_and_sign(request_, door, kind, noise):
    check(request_, kind, noise, door)
