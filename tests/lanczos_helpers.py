"""Matrices for the tests of Lanczos' methods, whole and in parts."""

import numpy as np

from autotune.ops import core_preconditioner
from autotune.ops.constants import NONE
from autotune.ops.core_operator import as_operator

EMPTY = np.zeros((0, 0))


def no_preconditioner():
    return core_preconditioner.build(np.eye(1), NONE)


def with_spectrum(eigenvalues, seed=0):
    n = len(eigenvalues)
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]
    A = (Q * eigenvalues) @ Q.T
    return (A + A.T) / 2


def gaussian_process(n=120, noise=0.1):
    X = np.random.default_rng(0).uniform(size=(n, 2))
    distances = ((X[:, None] - X[None]) ** 2).sum(-1)
    return np.exp(-0.5 * distances / 0.1**2) + noise * np.eye(n)


SPECTRA = {
    "geometric": with_spectrum(np.geomspace(1, 10, 120)),
    "uniform": with_spectrum(np.linspace(0.5, 10, 120)),
    "two_clusters": with_spectrum(np.repeat([1.0, 50.0], 60)),
    "gaussian_process": gaussian_process(),
}

_rng = np.random.default_rng(7)
_U, _d = _rng.normal(size=(60, 5)) / 4, _rng.uniform(2, 4, 60)
_S = with_spectrum(np.geomspace(1, 5, 60))
PARTS = {
    "thin": as_operator(EMPTY, _d, _U),
    "thin_weighted": as_operator(EMPTY, _d, _U, np.array([1.0, 2.0, 0.5, -0.005, 0.0])),
    "wide": as_operator(EMPTY, _d[:20], _rng.normal(size=(20, 30)) / 4),
    "smaller_than_a_block": as_operator(EMPTY, _d[:5], _U[:5, :2]),
    "all_but_one": as_operator(EMPTY, _d[:6], _U[:6]),
    "diagonal": as_operator(EMPTY, _d),
    "dense_and_diagonal": as_operator(_S, _d),
    "dense_and_columns": as_operator(_S, None, _U),
    "dense_sum": as_operator(_S, _d, _U),
    "one": as_operator(EMPTY, _d[:1]),
}
