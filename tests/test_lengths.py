"""Lengths that differ are refused as PyTensor's unoptimised graph refuses them, however they got lost."""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import compile_plain, compile_with
from pytensor.compile.mode import Mode
from pytensor.tensor.linalg import solve

RAW = Mode(linker="py", optimizer=None)
WOODBURY = {"rules": [{"forbid": ["keep", "cholesky", "cholesky_or_lu", "lu", "cg", "lanczos"]}], "margin": 0}
d, e, U, b = pt.vector("d"), pt.vector("e"), pt.matrix("U"), pt.vector("b")
LOW_RANK = U @ U.T
MATRICES = {
    "sum with a multiple of the identity": LOW_RANK + pt.diag(d) + 0.5 * pt.eye(e.shape[0]),
    "sum with ones like another": LOW_RANK + pt.diag(d) + pt.diag(pt.ones_like(e)),
    "identity times a row": LOW_RANK + pt.eye(e.shape[0]) * d[None, :],
    "identity divided by a column": LOW_RANK + pt.eye(e.shape[0]) / d[:, None],
    "identity as a mask": LOW_RANK + pt.eye(e.shape[0]) * (d[:, None] + d[None, :]) + pt.diag(d),
}


@pytest.mark.parametrize("name", MATRICES)
def test_a_length_that_only_a_filled_vector_has(name):
    rng = np.random.default_rng(0)
    out = solve(MATRICES[name], b, b_ndim=1)
    values = [rng.uniform(1, 2, 6), np.ones(6), rng.normal(size=(6, 2)), rng.normal(size=6)]
    inputs = [d, e, U, b]
    plain, tuned = compile_plain(inputs, out, RAW), compile_with(inputs, out, WOODBURY)
    np.testing.assert_allclose(tuned(*values), plain(*values))
    for length in (5, 8):
        values[1] = np.ones(length)
        for f in (plain, tuned):
            with pytest.raises((ValueError, AssertionError)):
                f(*values)
