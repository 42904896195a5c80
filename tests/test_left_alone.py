"""What PyTensor does in fewer steps, or what no strategy can take, is left to it."""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import compile_plain, compile_with, forced, op_names, relative_error
from pytensor.assumptions import assume
from pytensor.graph.replace import vectorize_graph
from pytensor.tensor.linalg import cholesky, inv, kron, qr, slogdet, solve

import autotune

N = 300
A, B = pt.matrix("A", shape=(N, N)), pt.matrix("B", shape=(5, 5))
b = pt.vector("b", shape=(N,))
small = pt.matrix("small", shape=(3, 3))
rng = np.random.default_rng(0)

STRUCTURED = {
    "solve_of_inverse": ([A, b], lambda: solve(inv(A), b)),
    "inverse_of_kronecker": ([B, small], lambda: inv(kron(B, small))),
    "inverse_of_blocks": ([B, small], lambda: inv(pt.linalg.block_diag(B, small))),
    "inverse_of_triangle": ([A, b], lambda: inv(assume(A, lower_triangular=True)) @ b),
    "determinant_of_orthogonal": ([A], lambda: pt.log(pt.abs(pt.linalg.det(qr(A)[0])))),
}


@pytest.mark.parametrize("name", STRUCTURED)
def test_structure_that_pytensor_exploits_is_left_to_it(name):
    inputs, build = STRUCTURED[name]
    tuned, plain = compile_with(inputs, build()), compile_plain(inputs, build())
    assert sorted(op_names(tuned)) == sorted(op_names(plain))


@pytest.mark.parametrize(
    ("matrices", "rhs", "b_ndim"),
    [((3, 1, 5, 5), (1, 4, 5), 1), ((1, 3, 5, 5), (4, 3, 5, 2), 2), ((3, 5, 5), (4, 3, 5, 2), 2)],
)
def test_a_right_hand_side_that_broadcasts_the_batch_is_left_to_pytensor(matrices, rhs, b_ndim):
    M, r = pt.tensor("M", shape=matrices), pt.tensor("r", shape=rhs)
    tuned = compile_with([M, r], solve(M, r, b_ndim=b_ndim))
    values = rng.normal(size=matrices) + 5 * np.eye(5), rng.normal(size=rhs)
    columns = values[1][..., None] if b_ndim == 1 else values[1]
    expected = np.linalg.solve(values[0], columns)
    assert relative_error(tuned(*values), expected[..., 0] if b_ndim == 1 else expected) < 1e-12
    assert not autotune.explain(tuned).failure


def test_a_system_that_is_not_square_is_left_to_pytensor():
    wide, r = pt.matrix("wide", shape=(2, 5)), pt.vector("r", shape=(2,))
    fn = compile_with([wide, r, A], [solve(wide, r), slogdet(A)[1]])
    assert not autotune.explain(fn).failure


def test_a_batch_of_identities_does_not_fail_the_pass():
    """PyTensor's inference raises there."""
    one, many = pt.matrix("one"), pt.tensor3("many")
    batch = vectorize_graph(slogdet(3 * pt.eye(one.shape[0], one.shape[1]) + one)[1], {one: many})
    fn = compile_with([many], batch)
    assert not autotune.explain(fn).failure
    values = rng.normal(size=(2, 3, 3))
    assert relative_error(fn(values), np.linalg.slogdet(3 * np.eye(3) + values)[1]) < 1e-12


def test_a_factor_used_before_autodiff_does_not_fail_the_pass(caplog):
    K = pt.matrix("K", shape=(N, N))
    k = pt.vector("k", shape=(N,))
    autotune.tune([cholesky(K), k @ solve(K, k, assume_a="pos"), slogdet(A)[1]])
    assert not caplog.records


def test_an_identity_of_order_one_is_no_scalar_of_its_multiple():
    """PyTensor 3.3 loses the multiple to a Gemm, unless it has folded the identity before."""
    A, x, i = pt.matrix("A"), pt.matrix("x", shape=(1, None)), pt.scalar("i", dtype="int8")
    K = kron(A, (abs(i) + 1) * pt.eye(1) + x @ x.T)
    value, given = inv(K + K.T).sum(), (np.array([[2.0, 1.0], [1.0, 3.0]]), np.ones((1, 2)), np.int8(4))
    found = compile_with([A, x, i], value, forced("keep"))(*given)
    assert relative_error(found, compile_plain([A, x, i], value)(*given)) < 1e-12
