"""Kronecker products and block-diagonal matrices, served by requests on their factors and blocks.

Whatever is asked of one, its value and its gradient are those of plain PyTensor on the dense matrix.
"""

import itertools
import pickle

import numpy as np
import pytensor.tensor as pt
import pytest
from composites import (
    BY_PARTS,
    COMPOSITES,
    FACTS,
    INPUTS,
    KINDS,
    MATRICES,
    C,
    assert_equal,
    gradients,
    loss_of,
    made,
    order_of,
    requests,
    s,
    values,
)
from helpers import compile_raw, compile_with, in_turn, largest_array, python_mode, spd, strategies
from pytensor.compile.mode import Mode
from pytensor.tensor.linalg import block_diag, cholesky, det, inv, kron, slogdet, solve_triangular

import autotune

pytestmark = pytest.mark.filterwarnings("ignore:An ill-conditioned matrix")  # that of NaN

PLAIN = ("one block",)
CASES = [(form, facts, kind) for form in MATRICES for facts in FACTS for kind in KINDS]
OF_GRADIENTS = [case for case in CASES if case[1:] not in (("none", "factor"), ("symmetric", "matrix"))]


@pytest.mark.parametrize(("form", "facts", "kind"), in_turn(CASES, every=30))
def test_values(form, facts, kind):
    K = made(form, facts)
    asked = KINDS[kind](K, order_of(K))
    fn = compile_with(INPUTS, list(asked.values()), BY_PARTS)
    assert_equal(fn(*values()), compile_raw(INPUTS, list(asked.values()))(*values()), asked)
    proven = kind == "matrix" or facts != "none"
    assert bool({*COMPOSITES} & {*strategies(fn)}) == (proven and form not in PLAIN)


@pytest.mark.parametrize(("form", "facts", "kind"), in_turn(OF_GRADIENTS, every=40))
def test_gradients(form, facts, kind):
    K = made(form, facts)
    asked = KINDS[kind](K, order_of(K))
    if facts == "none":
        del asked["solve sym"]  # any antisymmetric part of its gradient is right, and rewrites choose one
    loss = loss_of(asked.values())
    tuned = autotune.tune(loss, BY_PARTS)
    fn = compile_with(INPUTS, [tuned, *gradients(tuned)], BY_PARTS)
    plain = compile_raw(INPUTS, [loss, *gradients(loss)])
    names = ["value", *"ABCUds"]
    assert_equal(fn(*values()), plain(*values()), names)
    proven = kind == "matrix" or facts != "none"
    assert bool({*COMPOSITES} & {*strategies(fn)}) == (proven and form not in PLAIN)


# -- what plain PyTensor cannot do --------------------------------------------------------------------


def test_a_determinant_that_overflows():
    big = pt.matrix("M", shape=(60, 60))
    value = spd(60, np.random.default_rng(5), 1e3)
    for K, expected in (
        (kron(big, big), 120 * np.linalg.slogdet(value)[1]),
        (block_diag(*[1e5 * big] * 6), 6 * (60 * np.log(1e5) + np.linalg.slogdet(value)[1])),
        (1e5 * kron(big, big), 3600 * np.log(1e5) + 120 * np.linalg.slogdet(value)[1]),
    ):
        fn = compile_with([big], [*slogdet(K), pt.log(det(K))])
        assert {*COMPOSITES} & {*strategies(fn)}
        sign, logabsdet, log_of_det = fn(value)
        assert sign == 1
        assert abs(logabsdet / expected - 1) < 1e-12
        assert abs(log_of_det / expected - 1) < 1e-12


LARGE = {
    "kron": lambda A, B, C: (kron(A, B), 12 * 15),
    "kron of three": lambda A, B, C: (kron(A, kron(B, C)), 12 * 15 * 2),
    "scaled": lambda A, B, C: (s * kron(A, B), 12 * 15),
    "blocks": lambda A, B, C: (block_diag(A, B, 2 * A, s * B), 2 * 27),
    "block of krons": lambda A, B, C: (block_diag(kron(A, B), kron(A, C)), 12 * 17),
    "kron of thin": lambda A, B, C: (kron(A, pt.diag(pt.diagonal(B)) + s * pt.outer(B[0], B[0])), 12 * 15),
}


@pytest.mark.parametrize(("form", "facts"), in_turn(itertools.product(LARGE, ["symmetric", "definite"]), 10))
def test_no_array_of_the_whole_order(form, facts):
    """Of value and gradient of a likelihood, whatever its idiom."""
    inputs = [pt.matrix("A", shape=(12, 12)), pt.matrix("B", shape=(15, 15)), C]
    K, n = LARGE[form](*(FACTS[facts](X) for X in inputs))
    y = pt.vector("y", shape=(n,))
    L = cholesky(K)
    rng = np.random.default_rng(6)
    given = [spd(12, rng), spd(15, rng), spd(2, rng), np.array(1.3), rng.normal(size=n)]
    for loss in (
        y @ inv(K) @ y + slogdet(K)[1],
        pt.sqr(solve_triangular(L, y, lower=True)).sum() + 2 * pt.log(pt.diagonal(L)).sum(),
    ):
        tuned = autotune.tune(loss)
        of = [*inputs, s, y]
        fn = compile_with(of, [tuned, *gradients(tuned, of)])
        assert largest_array(fn) < n * n / 2
        value, *rest = compile_raw(of, [loss, *gradients(loss, of)])(*given)
        names = ["value", *"ABCsy"] if np.isfinite(value) else [*"ABCsy"]  # the determinant may overflow
        assert_equal(fn(*given)[-len(names) :], [value, *rest][-len(names) :], names)


# -- as any decision ----------------------------------------------------------------------------------


def test_tuned_twice_is_tuned_once():
    loss = loss_of(requests(made("kron of blocks", "definite"), 14).values())
    once, twice = autotune.tune(loss, BY_PARTS), autotune.tune(autotune.tune(loss, BY_PARTS), BY_PARTS)
    found = []
    for out in (once, twice):
        fn = compile_with(INPUTS, [out, *gradients(out)], BY_PARTS)
        found.append((strategies(fn), fn(*values())))
    assert found[0][0] == found[1][0]
    assert_equal(found[0][1], found[1][1], ["value", *"ABCUds"])


@pytest.mark.parametrize("door", ["mode", "tune"])
@pytest.mark.parametrize("form", ["kron", "block of kron"])
def test_what_is_served_by_parts_is_pickled_and_explained(form, door):
    asked = requests(made(form, "definite"), order_of(made(form)))
    # no Op of symbolic graphs: one that was differentiated, in another test, cannot be pickled
    out = loss_of(asked[kind] for kind in ("solve", "logdet", "quadratic form"))
    out = autotune.tune(out, BY_PARTS) if door == "tune" else out
    fn = compile_with(INPUTS, [out], BY_PARTS)
    again = pickle.loads(pickle.dumps(fn))
    assert_equal(again(*values()), fn(*values()), ["value"])
    assert str(autotune.explain(again)) == str(autotune.explain(fn))
    assert strategies(again) == strategies(fn)
    assert {*COMPOSITES} & {*strategies(fn)}


@pytest.mark.parametrize("linker", ["vm", pytest.param("numba", marks=pytest.mark.slow)])
def test_other_linkers(linker):
    base = Mode(linker=linker, optimizer="fast_run")
    for form in ("kron", "block of kron") if linker == "vm" else ("block of kron",):
        K = made(form, "definite")
        y = pt.vector("y", shape=(order_of(K),))
        loss = autotune.tune(y @ inv(K) @ y + slogdet(K)[1], BY_PARTS)
        of = [*INPUTS, y]
        given = [*values(), np.arange(1.0, 1 + order_of(K))]
        outputs = [loss, *gradients(loss, of)]
        fn = compile_with(of, outputs, BY_PARTS, base)
        assert {*COMPOSITES} & {*strategies(fn)}
        plain = y @ inv(K) @ y + slogdet(K)[1]
        expected = compile_raw(of, [plain, *gradients(plain, of)])(*given)
        assert_equal(fn(*given), expected, ["value", *"ABCUdsy"])


# -- PyMC ---------------------------------------------------------------------------------------------


def kernel(pm, name, n):
    x = np.linspace(0, 3, n)[:, None]
    return pm.gp.cov.ExpQuad(1, ls=pm.HalfNormal(name))(x) + 1e-2 * np.eye(n)


def kronecker_model(pm):
    y = np.random.default_rng(8).normal(size=20)
    pm.MvNormal("y", 0, cov=kron(kernel(pm, "l", 4), kernel(pm, "m", 5)), observed=y)


def multiple_model(pm):
    y = np.random.default_rng(8).normal(size=(3, 20))
    cov = pm.HalfNormal("eta") ** 2 * kron(kernel(pm, "l", 4), kernel(pm, "m", 5))
    pm.MvNormal("y", pm.Normal("mu", shape=20), cov=cov, observed=y)


def blocks_model(pm):
    y = np.random.default_rng(8).normal(size=9)
    pm.MvNormal("y", 0, cov=block_diag(kernel(pm, "l", 4), kernel(pm, "m", 5)), observed=y)


def matrix_normal_model(pm):
    y = np.random.default_rng(8).normal(size=(4, 5))
    pm.MatrixNormal("y", 0, rowcov=kernel(pm, "l", 4), colcov=kernel(pm, "m", 5), observed=y)


# of PyMC's MatrixNormal
@pytest.mark.filterwarnings("ignore:(pytensor.tensor.linalg.trace|matrix_dot is deprecated):FutureWarning")
@pytest.mark.pymc
@pytest.mark.parametrize(
    "make", in_turn([kronecker_model, multiple_model, blocks_model, matrix_normal_model], 4)
)
def test_models_of_pymc_are_as_the_dense_model(make):
    pm = pytest.importorskip("pymc")
    with pm.Model() as model:
        make(pm)
    compiled = []
    for policy in ({"rules": [{"force": "keep"}]}, BY_PARTS):
        with autotune.enabled(policy) as session:
            compiled.append(model.logp_dlogp_function(ravel_inputs=True, mode=python_mode()))
        compiled[-1].set_extra_values({})
    served = [decision.chosen for plan in session.plans for decision in plan.decisions]
    assert bool({*COMPOSITES} & {*served}) == (make is not matrix_normal_model)
    start = 0.3 * np.random.default_rng(0).normal(size=sum(v.size for v in model.initial_point().values()))
    plain, mine = compiled
    assert_equal(mine(start), plain(start), ["value", "gradient"])
