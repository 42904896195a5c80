"""No result waits for itself, whatever a function makes of the results of one matrix.

With unknown sizes all results of a matrix come from one lazy ``ifelse``: a right-hand side, or a factor of a
result, that is made of another result of that matrix has to be computed inside.
"""

import logging

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_plain, compile_with, forced, in_turn
from pytensor.compile.mode import Mode, get_mode
from pytensor.link.vm import VMLinker
from pytensor.tensor.linalg import det, inv, slogdet, solve

import autotune
import autotune.rewrite.build

U, d, y, B = pt.matrix("U"), pt.vector("d"), pt.vector("y"), pt.matrix("B")
INPUTS = [U, d, y, B]
RNG = np.random.default_rng(6)
VALUES = [RNG.normal(size=(6, 2)), RNG.uniform(1, 2, 6), RNG.normal(size=6), RNG.normal(size=(6, 3))]
K = U @ U.T + pt.diag(d)
LOGDET = slogdet(K)[1]
QUAD = y @ solve(K, y, assume_a="pos")
DIRECTION = pt.cos(pt.arange(d.shape[0]))

SCALARS = {
    "density": pt.exp(-QUAD / 2),
    "density of any scale": pt.exp(-QUAD / 2 - LOGDET / 2),
    "square": QUAD**2,
    "product": LOGDET * QUAD,
    "student": -pt.log1p(QUAD / 3) - LOGDET / 2,
    "log-determinant": LOGDET,
}
VECTORS = {
    "scaled by the log-determinant": solve(K, LOGDET * y, assume_a="pos"),
    "solved for twice": solve(K, solve(K, y, assume_a="pos") ** 2, assume_a="pos"),
    "as many columns as another solve has": solve(K, pt.sqr(solve(K, B, assume_a="pos")), assume_a="pos"),
    "columns that only a solve knows": solve(K, pt.tanh(inv(K) @ B)),
    "by the diagonal of the inverse": solve(K, pt.diagonal(inv(K)) * y),
    "each in terms of the other": solve(K, y * LOGDET) * QUAD,
    "two matrices, one after the other": solve(K + pt.eye(6), QUAD * solve(K, y)) * slogdet(K + pt.eye(6))[1],
    "two matrices, to and fro": solve(K, solve(K + pt.eye(6), solve(K, y))) * LOGDET,
}


def gradient(scalar):
    return pt.grad(scalar, [U, d, y], disconnected_inputs="ignore")


def hessian_product(scalar):
    [first] = pt.grad(scalar, [d])
    return pt.grad((first * DIRECTION).sum(), [d])


CASES = {
    **{f"gradient of {name}": (s, gradient) for name, s in SCALARS.items()},
    **{f"Hessian of {name}": (s, hessian_product) for name, s in SCALARS.items()},
    **{name: (v, lambda v: [v]) for name, v in VECTORS.items()},
}


def lazy_mode():
    return Mode(linker=VMLinker(use_cloop=False, c_thunks=False), optimizer="fast_run").excluding(
        "inplace", "fusion"
    )


def assert_right(outputs, expected, mode):
    fn = pytensor.function(INPUTS, outputs, mode=autotune.mode(base=mode), on_unused_input="ignore")
    assert not autotune.explain(fn).failure
    fn.maker.fgraph.check_integrity()
    for ours, plain in zip(fn(*VALUES), expected, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=0, atol=1e-9 * np.abs(plain).max(initial=1e-3))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", in_turn(CASES, 3))
def test_results_made_of_results(name):
    out, outputs = CASES[name]
    expected = compile_plain(INPUTS, outputs(out))(*VALUES)
    for graph in (outputs(out), outputs(autotune.tune(out))):
        assert_right(graph, expected, lazy_mode())


@pytest.mark.timeout(60)
def test_branches_that_are_joined_with_others_between_them():
    """Of two batches, whose determinants are in each other's gradients."""
    many, shared, s = (
        pt.tensor3("many", shape=(2, 7, None)),
        pt.matrix("shared", shape=(7, None)),
        pt.scalar("s"),
    )
    gram = many @ many.mT + shared @ shared.T
    loss = (det(gram + pt.eye(7)) * det(gram + s * pt.eye(7))).sum()
    inputs, values = [many, shared, s], [RNG.normal(size=(2, 7, 1)), RNG.normal(size=(7, 1)), 1.3]
    outputs = [loss, *pt.grad(loss, inputs)]
    policy = {"margin": 0, "rules": [{"forbid": ["keep", "cholesky_or_lu", "lu"]}]}
    fn = pytensor.function(inputs, outputs, mode=autotune.mode(policy, base=lazy_mode()))
    assert {d.chosen for d in autotune.explain(fn).decisions} == {"low_rank_update"}
    for ours, plain in zip(fn(*values), compile_plain(inputs, outputs)(*values), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["gradient of density of any scale", "Hessian of product", *list(VECTORS)[:1]]
)
def test_results_made_of_results_with_numba(name):
    out, outputs = CASES[name]
    assert_right(outputs(out), compile_plain(INPUTS, outputs(out))(*VALUES), get_mode("NUMBA"))


def test_a_cycle_is_not_committed(monkeypatch, caplog):
    """If all else fails: the graph is left as PyTensor's, which never ends on a cyclic one."""
    wire = autotune.rewrite.build.wire
    monkeypatch.setattr(
        autotune.rewrite.passes, "wire", lambda *args: [(old, new + 0 * old) for old, new in wire(*args)]
    )
    A = pt.matrix("A", shape=(6, 6))
    out = slogdet(A)[1]
    with caplog.at_level(logging.WARNING, logger="autotune"):
        fn = compile_with([A], out, forced("lu"))
    assert "left the graph" in caplog.text
    value = RNG.normal(size=(6, 6))
    np.testing.assert_allclose(fn(value), np.linalg.slogdet(value)[1])
