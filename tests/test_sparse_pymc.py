"""Precisions of areas in PyMC, as they are written by hand."""

import numpy as np
import pytest
from helpers import python_mode
from test_sparse import FORCED, VALUES, D, G, N, W, y

import autotune

pm = pytest.importorskip("pymc")
pytestmark = pytest.mark.pymc


def car(scale, a):
    return scale * (D - a * W)


def leroux(scale, a):
    return scale * (a * G + (1 - a) * np.eye(N))


@pytest.mark.parametrize("precision", [car, leroux])
def test_a_precision_of_areas(precision):
    with pm.Model() as model:
        scale, a = pm.HalfNormal("scale"), pm.Beta("a", 2, 2)
        pm.MvNormal("phi", np.zeros(N), tau=precision(scale, a), shape=N)
    outputs = [model.logp(), model.dlogp()]
    point = {**model.initial_point(), "phi": VALUES[y]}
    plain = model.compile_fn(outputs, mode=python_mode())(point)
    with autotune.enabled(FORCED) as session:
        found = model.compile_fn(outputs, mode=python_mode())(point)
    assert [d.chosen for plan in session.plans for d in plan.decisions][-1] == "sparse_ldl"
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)
