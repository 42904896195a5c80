"""The kinds of numbers that inputs hold."""

import numpy as np


def draw(r, shape, kind, hard=False):
    """Numbers of one kind from the stream ``r``; ``hard`` spreads magnitudes over many decades."""
    return KINDS[kind](r, shape, hard)


def _normal(r, shape, hard):
    x = r.normal(size=shape)
    return x * 10 ** r.uniform(-4, 4) if hard and r.uniform() < 0.4 else x


def _positive(r, shape, hard):
    x = r.uniform(0.5, 2, size=shape)
    return x * 10 ** r.uniform(-7, 3) if hard and r.uniform() < 0.5 else x


def _wide(r, shape, hard):
    return 10 ** r.uniform(-6 if hard else -2, 3 if hard else 2, size=shape)


def _signed(r, shape, hard):
    return r.uniform(0.5, 2, size=shape) * (2 * r.randint(0, 2, size=shape) - 1)


def _some_zero(r, shape, hard):
    x = r.uniform(0.5, 2, size=shape)
    if shape and shape[-1] > 2:
        x[..., r.randint(shape[-1])] = 0.0
    return x


def _spd(r, shape, hard):
    if len(shape) < 2 or shape[-1] != shape[-2]:
        return r.uniform(0.5, 2, size=shape)
    n = shape[-1]
    half = r.normal(size=shape)
    floor = 10 ** r.uniform(-8, -2) if hard else 0.5
    return half @ np.swapaxes(half, -1, -2) / max(n, 1) + floor * np.eye(n)


def _sym(r, shape, hard):
    half = r.normal(size=shape)
    return half + np.swapaxes(half, -1, -2) + 0.5 * np.eye(shape[-1])


def _indefinite(r, shape, hard):
    """Symmetric with eigenvalues of both signs, none near zero (order 1: negative)."""
    n = shape[-1]
    q = np.linalg.qr(r.normal(size=shape))[0] if n else np.zeros(shape)
    eigenvalues = np.where(np.arange(n) % 2, 1.0, -1.0) * r.uniform(0.5, 2, size=n)
    s = (q * eigenvalues) @ np.swapaxes(q, -1, -2)
    return (s + np.swapaxes(s, -1, -2)) / 2


def _triangle(keep, drop):
    """A positive definite matrix of which one triangle is given; the other holds something else."""

    def make(r, shape, hard):
        return keep(_spd(r, shape, hard)) + r.randint(0, 2) * drop(r.normal(size=shape))

    return make


def _general(r, shape, hard):
    return r.normal(size=shape) + 1.5 * np.eye(shape[-2], shape[-1])


def _lower(r, shape, hard):
    return np.tril(0.3 * r.normal(size=shape), -1) + np.eye(shape[-1]) * r.uniform(0.7, 2)


KINDS = {
    "normal": _normal,
    "positive": _positive,
    "wide": _wide,
    "signed": _signed,
    "some_zero": _some_zero,
    "int": lambda r, shape, hard: r.randint(-3, 4, size=shape),
    "bool": lambda r, shape, hard: r.randint(0, 2, size=shape),
    "spd": _spd,
    "sym": _sym,
    "indefinite": _indefinite,
    "lower half": _triangle(np.tril, lambda x: np.triu(x, 1)),
    "upper half": _triangle(np.triu, lambda x: np.tril(x, -1)),
    "general": _general,
    "lower": _lower,
}
INTEGER_KINDS = ("int", "bool")
