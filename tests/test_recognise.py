"""Every written form of diagonal plus low rank is read, and computes the same as dense NumPy."""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import (
    FORCE_WOODBURY,
    INPUTS,
    STRUCTURED,
    N,
    U,
    V,
    chosen,
    compile_raw,
    compile_with,
    d,
    dense_value,
    in_turn,
    largest_array,
    relative_error,
    s,
    structured_values,
    w,
)
from pytensor.graph.traversal import ancestors

import autotune
from autotune.algebra.dense import Dense
from autotune.algebra.diagonal import Diagonal
from autotune.algebra.low_rank import LowRank
from autotune.algebra.registry import operator_from
from autotune.algebra.sum import Sum, sum_of
from autotune.read.matrices import recognise

b = pt.vector("b", shape=(N,))
B = pt.matrix("B", shape=(N, 4))


@pytest.mark.parametrize("form", in_turn(STRUCTURED))
def test_form_is_read_and_never_formed(form):
    K = STRUCTURED[form]
    sign, logabsdet = pt.linalg.slogdet(K)
    inverse = pt.linalg.inv(K)
    outputs = [
        pt.linalg.solve(K, b),
        inverse @ B,
        B.T @ inverse,
        b @ inverse @ b,
        pt.diagonal(inverse),
        sign,
        logabsdet,
    ]
    fn = compile_with([*INPUTS, b, B], outputs, FORCE_WOODBURY)
    assert chosen(fn) == ["woodbury"]
    assert largest_array(fn) < N * N
    values = structured_values()
    rng = np.random.default_rng(1)
    b_value, B_value = rng.normal(size=N), rng.normal(size=(N, 4))
    dense = dense_value(K, values)
    dense_inverse = np.linalg.inv(dense)
    expected = [
        np.linalg.solve(dense, b_value),
        dense_inverse @ B_value,
        B_value.T @ dense_inverse,
        b_value @ dense_inverse @ b_value,
        np.diag(dense_inverse),
        *np.linalg.slogdet(dense),
    ]
    for actual, reference in zip(fn(*values, b_value, B_value), expected, strict=True):
        assert relative_error(actual, reference) < 1e-10


NOT_STRUCTURED = {
    "dense": pt.matrix("M", shape=(N, N)),
    "dense_plus_diagonal": pt.matrix("M", shape=(N, N)) + pt.diag(d),
    "gram_without_base": U @ U.T,
    "only_diagonal": pt.diag(d),
    "elementwise_square": (U @ U.T) ** 2 + pt.diag(d),
    "exponential": pt.exp(U @ U.T) + pt.diag(d),
    "plus_scalar": U @ U.T + s,
    "plus_row": U @ U.T + pt.diag(d) + d,
    "hadamard": (U @ U.T) * (V @ V.T) + pt.diag(d),
    "offset_diagonal": U @ U.T + pt.eye(N, k=1),
    "full_constant": U @ U.T + np.ones((N, N)),
    "off_diagonal_constant": U @ U.T + np.eye(N, k=2),
    "shifted_index": (U @ U.T)[pt.arange(N), (pt.arange(N) + 1) % N].inc(d),
}


@pytest.mark.parametrize("form", NOT_STRUCTURED)
def test_anything_else_has_a_dense_term(form):
    """Products with a few columns beside a dense matrix are still thin."""
    operator = recognise(NOT_STRUCTURED[form])
    beside = dict.fromkeys(("offset_diagonal", "off_diagonal_constant"), ("low_rank", "banded"))
    assert operator.structure == beside.get(form, ("dense",))
    assert operator.structure != ("dense",) or isinstance(operator, Dense)


def test_leading_ones_are_dropped():
    operator = recognise((U @ U.T)[None] + pt.diag(d)[None])
    assert operator.structure == ("diagonal", "low_rank")
    assert all(part.ndim <= 2 for part in operator.parts)


def test_operator_is_rebuilt_from_signature_and_parts():
    operator = Sum((Diagonal(d), LowRank(U, w, V)))
    again = operator_from(operator.signature, operator.parts)
    assert again.signature == operator.signature
    assert all(a is b for a, b in zip(again.parts, operator.parts, strict=True))
    with pytest.raises(ValueError, match="1 parts too many"):
        operator_from(operator.signature, [*operator.parts, d])


OPERATORS = {
    "dense": Dense(pt.matrix("M", shape=(N, N))),
    "diagonal": Diagonal(d),
    "symmetric": LowRank(U, None, U),
    "weighted": LowRank(U, w, U),
    "general": LowRank(U, w, V),
    "sum": Sum((Diagonal(d), LowRank(U, w, V))),
    "joined": sum_of([Diagonal(d), LowRank(U, None, U), LowRank(V, w, V), Diagonal(d)]),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_answers_as_its_matrix(name):
    operator = OPERATORS[name]
    leaves = [*dict.fromkeys(v for v in [U, V, d, w, OPERATORS["dense"].matrix])]
    dense = operator.to_dense()
    outputs = [
        operator.matmul(B) - dense @ B,
        operator.rmatmul(B) - dense.T @ B,
        operator.diagonal() - pt.diagonal(dense),
        operator.transpose().to_dense() - dense.T,
        operator.scale(s).to_dense() - s * dense,
    ]
    fn = compile_with([*leaves, B, s], outputs)
    rng = np.random.default_rng(2)
    values = [rng.normal(size=var.type.shape) for var in [*leaves, B]]
    for difference in fn(*values, np.array(0.3)):
        assert np.abs(difference).max() < 1e-12


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "joined"])
def test_pullback_is_that_of_the_dense_matrix(name):
    """``sum(M * A(parts))`` differentiated by PyTensor, against the operator's own rule."""
    from autotune.algebra.requests import OuterCotangent

    operator = OPERATORS[name]
    left, right = pt.matrix("left", shape=(N, 2)), pt.matrix("right", shape=(N, 2))
    cotangent = -(left @ right.T)
    cost = (cotangent * operator.to_dense()).sum()
    leaves = list(operator.parts)
    expected = pt.grad(cost, leaves, consider_constant=[cotangent])
    inputs = [*leaves, left, right]
    outputs = [
        a - e
        for rule in (OuterCotangent(left, right), Dense(cotangent))
        for a, e in zip(operator.pullback(rule), expected, strict=True)
    ]
    rng = np.random.default_rng(3)
    for difference in compile_with(inputs, outputs)(*[rng.normal(size=i.type.shape) for i in inputs]):
        assert np.abs(difference).max() < 1e-11


def test_one_column_is_symmetric_however_it_is_written():
    """A product with one column becomes elementwise, rows and columns views of one vector."""
    from autotune.algebra.requests import RequestOp

    column, vector = pt.matrix("column", shape=(N, 1)), pt.vector("vector", shape=(N,))
    forms = [
        (column, column @ column.T),
        (column, column * column.T),
        (vector, pt.outer(vector, vector)),
        (vector, vector[:, None] * vector[None, :]),
        (vector, vector[:, None] @ vector[None, :]),
    ]
    for leaf, product in forms:
        K = product * s + pt.diag(d)
        loss = b @ pt.linalg.solve(K, b) + pt.linalg.slogdet(K)[1]
        tuned = autotune.tune(loss, FORCE_WOODBURY)
        requests = [v.owner.op for v in ancestors([tuned]) if isinstance(v.owner_op, RequestOp)]
        assert requests
        assert all(op.spec.signature[-1][:3] == ("low_rank", True, True) for op in requests)
        outputs = [tuned, *pt.grad(tuned, [leaf, d, s])]
        inputs = [leaf, d, s, b]
        rng = np.random.default_rng(4)
        values = [rng.normal(size=leaf.type.shape), rng.uniform(1, 2, N), np.array(0.7), rng.normal(size=N)]
        expected = compile_raw(inputs, [loss, *pt.grad(loss, [leaf, d, s])])(*values)
        for a, e in zip(compile_with(inputs, outputs)(*values), expected, strict=True):
            assert relative_error(a, e) < 1e-9
