"""The unrolled loops compute what `core_quasiseparable` does: both in Python, where nothing is compiled."""

import numpy as np
import pytest

from autotune.ops import core_quasiseparable as core
from autotune.ops.unrolled_quasiseparable import SOURCES

BLOCKS = [
    ((1,), (0,)),
    ((2,), (0,)),
    ((3,), (1,)),
    ((1, 2), (0, 1)),
    ((2, 1, 1), (0, 0, 1)),
    ((4, 2), (0, 0)),
]


def unrolled(name, sizes):
    found = {"np": np, "decays": core.decays, "slope": core.slope}
    exec(SOURCES[name](sizes), found)
    return found[name]


def example(sizes, powers, n, columns):
    rng = np.random.default_rng(n)
    steps = np.r_[0.0, rng.integers(1, 4, size=max(n - 1, 0))][:n]
    c, rates = rng.normal(size=sum(sizes)), rng.uniform(0.2, 0.8, size=len(sizes))
    shape = (steps, c, rates, np.array(sizes), np.array(powers))
    return 20.0 + rng.random(n), shape, rng.normal(size=(2, n, columns))


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert np.asarray(a).shape == np.asarray(b).shape
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("n", [0, 1, 2, 9])
@pytest.mark.parametrize("columns", [0, 1, 3])
@pytest.mark.parametrize(("sizes", "powers"), BLOCKS)
def test_unrolled_loops_find_the_same(sizes, powers, n, columns):
    d, line, (B, X) = example(sizes, powers, n, columns)
    steps, c, _, whole, _ = line
    F = core.factor(d, *line)
    same(unrolled("factor", sizes)(d, *line), F)
    D, V, E = F[:3]
    same([unrolled("solve", sizes)(D, V, E, steps, c, whole, B)], [core.solve(D, V, E, steps, c, whole, B)])
    rest = (D, V, E, *line)
    same(unrolled("logdet_pullback", sizes)(*rest), core.logdet_pullback(*rest))
    same([unrolled("dot", sizes)(d, *line, X)], [core.dot(d, *line, X)])
    same(unrolled("outer", sizes)(B, X, *line), core.outer(B, X, *line))


@pytest.mark.parametrize("scale", [1e-200, 1e-90, 1.0, 1e90, 1e200])
def test_a_log_determinant_of_any_size(scale):
    d, (steps, c, *rest), _ = example((2,), (0,), 50, 1)
    found = unrolled("factor", (2,))(scale * d, steps, scale * c, *rest)
    same(found, core.factor(scale * d, steps, scale * c, *rest))
    assert np.isfinite(found[-1])


def test_not_positive_definite_is_nan():
    d, line, _ = example((1,), (0,), 5, 1)
    d[3] = -1.0
    same(unrolled("factor", (1,))(d, *line), core.factor(d, *line))
    assert np.isnan(core.factor(d, *line)[0]).all()


def test_a_power_of_base_zero_has_the_slope_of_its_first_step():
    """``0 ** r`` is 0 for r > 0, and its derivative at r = 1 is one."""
    n = 6
    line = (np.r_[0.0, 1, 2, 1, 1, 3], np.ones(1), np.zeros(1), np.array([1]), np.array([1]))
    left, right = np.random.default_rng(0).normal(size=(2, n, 1))
    t = np.cumsum(line[0])
    neighbours = np.abs(t[:, None] - t) == 1
    expected = ((left @ right.T) * neighbours).sum()
    for outer in (core.outer, unrolled("outer", (1,))):
        np.testing.assert_allclose(outer(left, right, *line)[2], [expected], rtol=1e-12)
