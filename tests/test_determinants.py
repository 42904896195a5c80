"""Log-determinants that plain PyTensor overflows are finite and right."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_with, python_mode, relative_error
from pytensor.compile.mode import Mode
from pytensor.link.vm import VMLinker
from pytensor.tensor.linalg import block_diag, cholesky, det, kron, qr, slogdet, svd
from pytensor.tensor.linalg.products import KroneckerProduct

import autotune

rng = np.random.default_rng(7)
A, B = pt.matrix("A", shape=(60, 60)), pt.matrix("B", shape=(60, 60))
A_value, B_value = 100 * rng.normal(size=(60, 60)), 100 * rng.normal(size=(60, 60))
BIG = 1e3 * rng.normal(size=(500, 500))


def kron_reference(p, q):
    (sp, lp), (sq, lq) = np.linalg.slogdet(p), np.linalg.slogdet(q)
    return sp ** len(q) * sq ** len(p), len(q) * lp + len(p) * lq


def test_kron():
    fn = compile_with([A, B], list(slogdet(kron(A, B))))
    for actual, expected in zip(fn(A_value, B_value), kron_reference(A_value, B_value), strict=True):
        assert relative_error(actual, expected) < 1e-12


@pytest.mark.parametrize("rows", [(3, 4), (4, 3), (3, 5), (1, 3)])
def test_sign_of_kron_by_the_parity_of_orders(rows):
    p, q = rows
    X, Y = pt.matrix("X", shape=(p, p)), pt.matrix("Y", shape=(q, q))
    fn = compile_with([X, Y], list(slogdet(kron(X, Y))))
    for flip_x, flip_y in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
        X_value = np.diag([flip_x, *np.arange(2.0, p + 1)])
        Y_value = np.diag([flip_y, *np.arange(2.0, q + 1)])
        sign, logabsdet = fn(X_value, Y_value)
        expected = np.linalg.slogdet(np.kron(X_value, Y_value))
        assert sign == expected[0]
        assert logabsdet == pytest.approx(expected[1], rel=1e-12, abs=1e-12)


def test_kron_of_constants():
    fn = compile_with([], list(slogdet(kron(pt.constant(A_value), pt.constant(B_value)))))
    for actual, expected in zip(fn(), kron_reference(A_value, B_value), strict=True):
        assert relative_error(actual, expected) < 1e-12


def test_nested_kron_and_blocks():
    small = rng.normal(size=(5, 5)) * 50
    X = pt.matrix("X", shape=(5, 5))
    matrix = block_diag(kron(X, kron(X, X)), X)
    fn = compile_with([X], list(slogdet(matrix)))
    dense = np.kron(small, np.kron(small, small))
    expected = np.linalg.slogdet(dense)
    sign, logabsdet = fn(small)
    assert sign == pytest.approx(expected[0] * np.linalg.slogdet(small)[0])
    assert logabsdet == pytest.approx(expected[1] + np.linalg.slogdet(small)[1], rel=1e-12)


def test_block_diag_of_order_1000():
    X = pt.matrix("X", shape=(500, 500))
    sign, logabsdet = compile_with([X], list(slogdet(block_diag(X, 2 * X))))(BIG)
    expected = 2 * np.linalg.slogdet(BIG)[1] + 500 * np.log(2)
    assert sign == 1
    assert logabsdet == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("positive_definite", [False, True])
def test_with_the_determinant_of_the_same_matrix(positive_definite):
    from pytensor.assumptions import assume

    X = pt.matrix("X", shape=(500, 500))
    M = assume(X @ X.T + pt.eye(500), positive_definite=True) if positive_definite else X
    fn = compile_with([X], [det(M), *slogdet(M), det(0.01 * M[:3, :3])])
    with np.errstate(over="ignore"):
        determinant, sign, logabsdet, small = fn(BIG)
    dense = BIG @ BIG.T + np.eye(500) if positive_definite else BIG
    expected = np.linalg.slogdet(dense)
    assert np.isinf(determinant)
    assert sign == expected[0]
    assert logabsdet == pytest.approx(expected[1], rel=1e-12)
    assert small == pytest.approx(np.linalg.det(0.01 * dense[:3, :3]), rel=1e-10)


def test_singular_matrix_has_minus_infinite_logdet():
    X = pt.matrix("X", shape=(4, 4))
    b = pt.vector("b", shape=(4,))
    fn = compile_with([X, b], [det(X), *slogdet(X)], base=python_mode())
    singular = np.diag([1.0, 2.0, 0.0, 3.0])
    with np.errstate(divide="ignore"):
        determinant, sign, logabsdet = fn(singular, np.ones(4))
    assert determinant == 0
    assert sign == 0
    assert logabsdet == -np.inf


@pytest.mark.parametrize("base", [python_mode(), Mode(VMLinker(use_cloop=False, c_thunks=False), "fast_run")])
def test_a_determinant_of_unknown_factors_is_that_of_each(base):
    P, Q = pt.matrices("P", "Q")
    fn = pytensor.function([P, Q], det(kron(P, Q)), mode=autotune.mode(base=base))
    assert not any(isinstance(node.op, KroneckerProduct) for node in fn.maker.fgraph.apply_nodes)


@pytest.mark.parametrize(
    "factorised", [lambda X: qr(X)[0], lambda X: svd(X, compute_uv=False)], ids=["qr", "svd"]
)
def test_a_determinant_is_taken_from_a_factorisation_that_is_there(factorised):
    X = pt.matrix("X", shape=(6, 6))
    fn = compile_with([X], [factorised(X), pt.abs(det(X))])
    assert not autotune.explain(fn).decisions
    value = rng.normal(size=(6, 6))
    assert relative_error(fn(value)[1], abs(np.linalg.det(value))) < 1e-12


@pytest.mark.parametrize("asked", ["slogdet", "factor"])
def test_more_blocks_than_numpy_has_operands(asked):
    X = pt.tensor3("X", shape=(40, 2, 2))
    value = rng.normal(size=(40, 2, 2))
    value = value @ value.swapaxes(1, 2) + np.eye(2)
    K = block_diag(*((X[i] + X[i].T) / 2 for i in range(40)))
    logdet = slogdet(K)[1] if asked == "slogdet" else 2 * pt.log(pt.diagonal(cholesky(K))).sum()
    policy = {"rules": [{"match": {"structure": "block_diagonal"}, "force": "block_diagonal"}]}
    fn = compile_with([X], [logdet, pt.grad(logdet, X)], policy)
    found, slope = fn(value)
    assert relative_error(found, np.linalg.slogdet(value)[1].sum()) < 1e-12
    assert relative_error(slope, np.linalg.inv(value)) < 1e-12
