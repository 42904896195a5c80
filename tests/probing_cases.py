"""Matrices of known spectra, and the example that the tests of probing compile."""

import math
from dataclasses import replace

import numpy as np
import pytensor
import pytensor.tensor as pt
from helpers import python_mode
from pytensor.assumptions import assume

import autotune
from autotune.choose import choose
from autotune.evidence import probe
from autotune.evidence.convergence import rank_of, try_out
from autotune.ops import core_preconditioner
from autotune.policy.files import load_policy
from autotune.problem import Problem, Request, dense
from cost_models import generic_profile

PROFILE = generic_profile()
PLAIN = ("none", None)
DENSE = Problem(
    requests=(Request("solve", 1, form="pos"),), term=dense(4000), positive_definite=True, symmetric=True
)


def uniform(n, condition):
    return np.linspace(1, condition, n)


def geometric(n, condition):
    return np.geomspace(1, condition, n)


def clustered(n, condition):
    """Ten eigenvalues, each with a cluster around it."""
    return np.sort(np.resize(np.geomspace(1, condition, 10), n) * np.linspace(1, 1.01, n))


SPECTRA = (uniform, geometric, clustered)


def reflected(eigenvalues, seed=0):
    """A dense matrix with these eigenvalues: two Householder reflections of the diagonal one."""
    A, rng = np.diag(np.asarray(eigenvalues, dtype=float)), np.random.default_rng(seed)
    for v in rng.normal(size=(2, len(A))):
        H = np.eye(len(A)) - 2 * np.outer(v, v) / (v @ v)
        A = H @ A @ H
    return (A + A.T) / 2


def gaussian_kernel(n, lengthscale, noise, seed=0, dims=1):
    X = np.random.default_rng(seed).uniform(size=(n, dims))
    distances = ((X[:, None] - X[None]) ** 2).sum(axis=-1)
    return np.exp(-0.5 * distances / lengthscale**2) + noise * np.eye(n)


def stiffness(n):
    """Linear finite elements on an interval, the elements' lengths a factor of 1e4 apart."""
    k = 1 / np.geomspace(1e-4, 1, n + 1)
    return np.diag(k[:-1] + k[1:]) - np.diag(k[1:-1], 1) - np.diag(k[1:-1], -1)


def iterations_taken(A, rtol, seed=3):
    """By the textbook recurrence, without a preconditioner."""
    b = np.random.default_rng(seed).normal(size=len(A))
    r, p, rho = b.copy(), b.copy(), b @ b
    for used in range(1, 4 * len(A)):
        q = A @ p
        r -= rho / (p @ q) * q
        rho, before = r @ r, rho
        if math.sqrt(rho) <= rtol * np.linalg.norm(b):
            return used
        p = r + rho / before * p
    return used


def decide(problem, **policy):
    return choose(problem, load_policy(policy, layers=False), PROFILE)


def decided_on(A, n=None, **policy):
    """The choice for a solve with a matrix like A; of order ``n``, with the spectrum of A."""
    kinds = probe.kinds_to_try(replace(DENSE, term=dense(len(A))), load_policy(policy, layers=False))
    found = try_out(A, kinds, probe.MOST_PRODUCTS)
    return decide(replace(DENSE, term=dense(n or len(A)), spectrum=found), **policy)


class Diagonal:
    """``diag(d)`` as iterations see it; conjugate gradients do not depend on the basis."""

    def __init__(self, d):
        self.d = d

    def __len__(self):
        return len(self.d)

    def __matmul__(self, x):
        return self.d * x


def probing_parts(A, kind):
    return core_preconditioner.build(A, rank_of(kind))


# -- a kernel matrix in a graph, and values for it -------------------------------------------------------


ORDER = 300
points = pt.matrix("points", shape=(ORDER, 2))
noise, rhs = pt.scalar("noise"), pt.vector("rhs", shape=(ORDER,))
INPUTS = [points, noise, rhs]
VALUES = {
    "points": np.random.default_rng(1).uniform(size=(ORDER, 2)),
    "noise": np.array(1.0),
    "rhs": np.random.default_rng(2).normal(size=ORDER),
}
FORCE = {"rules": [{"force": "cg"}]}


def kernel_solve():
    distances = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    K = assume(pt.exp(-distances) + noise * pt.eye(ORDER), positive_definite=True)
    K.name = "K"
    return pt.linalg.solve(K, rhs)


def compiled(policy=None, **given):
    mode = autotune.mode(policy, base=python_mode(), **given)
    return pytensor.function(INPUTS, kernel_solve(), mode=mode)


def spectrum_of(fn):
    [decision] = autotune.explain(fn).decisions
    return decision.problem.spectrum
