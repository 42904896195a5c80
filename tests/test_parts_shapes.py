"""Kronecker products and block-diagonal matrices of other dtypes, unknown orders, wrong lengths, or none."""

import itertools

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
    A,
    B,
    C,
    assert_equal,
    d,
    gradients,
    loss_of,
    made,
    order_of,
    requests,
    s,
    values,
)
from helpers import compile_raw, compile_with, in_turn, strategies
from pytensor.tensor.linalg import block_diag, cholesky, inv, kron, slogdet, solve, solve_triangular

import autotune

pytestmark = pytest.mark.filterwarnings("ignore:An ill-conditioned matrix")  # that of NaN


@pytest.mark.parametrize(
    ("form", "kind"),
    in_turn(itertools.product(["kron", "blocks", "kron of blocks", "block of kron"], KINDS), 8),
)
def test_single_precision(form, kind):
    inputs = [pt.tensor(X.name, dtype="float32", shape=X.type.shape) for X in (A, B, C)]
    K = MATRICES[form](*(FACTS["definite"](X) for X in inputs))
    outputs = list(KINDS[kind](K, K.type.shape[0]).values())
    loss = loss_of(outputs)
    tuned = autotune.tune(loss, BY_PARTS)
    fn = compile_with(inputs, [*outputs, tuned, *gradients(tuned, inputs)], BY_PARTS)
    plain = compile_raw(inputs, [*outputs, loss, *gradients(loss, inputs)])
    given = [X / np.float32(8) for X in values(dtype="float32")[:3]]  # determinants of a moderate size
    assert_equal(fn(*given), plain(*given), range(100)[: len(outputs) + 4], 2e-3)
    assert {*COMPOSITES} & {*strategies(fn)}


@pytest.mark.parametrize(
    ("dtypes", "form"),
    in_turn(
        itertools.product(
            [("int64", "int64"), ("int64", "float64"), ("float32", "float64")], ["kron", "blocks", "scaled"]
        ),
        2,
    ),
)
def test_parts_of_several_dtypes_and_integers_stay_as_written(form, dtypes):
    first, last = pt.matrix("A", shape=(4, 4), dtype=dtypes[0]), pt.matrix("B", shape=(3, 3), dtype=dtypes[1])
    K = MATRICES[form](first, last, C)
    asked = requests(K, K.type.shape[0])
    fn = compile_with([first, last, s], list(asked.values()), BY_PARTS)
    assert not {*COMPOSITES} & {*strategies(fn)}
    given = [np.round(4 * value).astype(dtype) for value, dtype in zip(values(), dtypes, strict=False)]
    plain = compile_raw([first, last, s], list(asked.values()))
    assert_equal(fn(*given, 1.3), plain(*given, 1.3), asked, 1e-3 if "float32" in dtypes else 1e-9)


def unknown(*names):
    return [pt.matrix(name) for name in names]


UNKNOWN_ORDERS = itertools.product(
    ["kron", "kron of three", "blocks", "block of kron", "kron of blocks"],
    ["symmetric", "definite", "gram"],
    KINDS,
    [None, BY_PARTS],
)


@pytest.mark.parametrize(("form", "facts", "kind", "policy"), in_turn(UNKNOWN_ORDERS, 47))
def test_unknown_orders(form, facts, kind, policy):
    """As with known ones."""
    proven = {**FACTS, "gram": lambda X: X @ X.T}[facts]
    n = order_of(MATRICES[form](A, B, C))

    def outputs(inputs, tune=list):
        asked = KINDS[kind](MATRICES[form](*(proven(X) for X in inputs)), n)
        loss = sum(out.sum() for out in asked.values() if out.dtype != "bool")
        tuned = tune([*asked.values(), loss])
        return [*tuned, *gradients(tuned[-1], inputs)]

    inputs = unknown(*"ABC")
    fn = compile_with(inputs, outputs(inputs, lambda outs: autotune.tune(outs, policy)), policy)
    plain = compile_raw([A, B, C], outputs([A, B, C]))
    assert_equal(fn(*values()[:3]), plain(*values()[:3]), range(100)[: len(fn.maker.fgraph.outputs)])


@pytest.mark.parametrize("join", [kron, block_diag])
def test_a_part_of_which_one_term_tells_the_order(join):
    points = pt.matrix("points", shape=(None, 1))
    K = join(pt.diag(d) + points @ points.T, B)
    asked = requests(K, 15 if join is kron else 8)
    of = [points, d, B]
    given = [values()[3], values()[4], values()[1]]
    fn = compile_with(of, list(asked.values()), BY_PARTS)
    assert {*COMPOSITES} & {*strategies(fn)}
    assert_equal(fn(*given), compile_raw(of, list(asked.values()))(*given), asked)


@pytest.mark.parametrize("form", ["kron", "blocks", "kron of three", "block of kron"])
@pytest.mark.parametrize("shapes", [[(2, 3), (3, 2)], [(None, None), (None, None)]])
def test_parts_that_are_not_proven_to_be_square_stay_as_written(form, shapes):
    first, last = (pt.matrix(name, shape=shape) for name, shape in zip("AB", shapes, strict=True))
    K = MATRICES[form](first, last, C)
    fn = compile_with([first, last, C], [inv(K), pt.diagonal(inv(K))], BY_PARTS)
    assert not {*COMPOSITES} & {*strategies(fn)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "form", ["kron", "kron of three", "blocks", "block of kron", "kron of thin", "identity last"]
)
@pytest.mark.parametrize("shape", [(None,), (None, 2), (None, None)])
def test_a_right_hand_side_of_another_length_is_refused(form, kind, shape):
    K = made(form, "definite")
    n = order_of(K)
    b = pt.tensor("b", shape=shape)
    L = cholesky(K)
    outputs = {
        "matrix": [solve(K, b, b_ndim=b.ndim), solve(K.T, b, b_ndim=b.ndim), slogdet(K)[1]],
        "factor": [
            pt.sqr(solve_triangular(L, b, lower=True, b_ndim=b.ndim)).sum(),
            pt.log(pt.diagonal(L)).sum(),
        ],
    }[kind]
    fn = compile_with([*INPUTS, b], outputs, BY_PARTS)
    assert {*COMPOSITES} & {*strategies(fn)}
    fn(*values(), np.ones((n, 2)[: b.ndim]))
    for wrong in (n - 1, n + 1, 2 * n, 1, 0):
        with pytest.raises((ValueError, AssertionError, TypeError)):
            fn(*values(), np.ones((wrong, 2)[: b.ndim]))


@pytest.mark.parametrize("form", ["kron", "blocks", "kron of blocks", "block of thin"])
def test_no_columns(form):
    K = made(form, "definite")
    n = order_of(K)
    Y = pt.matrix("Y", shape=(n, None))
    fn = compile_with([*INPUTS, Y], [solve(K, Y), (Y * (inv(K) @ Y)).sum(axis=0), slogdet(K)[1]], BY_PARTS)
    solution, squares, _ = fn(*values(), np.ones((n, 0)))
    assert solution.shape == (n, 0)
    assert squares.shape == (0,)


def test_an_empty_block_changes_nothing():
    empty = pt.matrix("E", shape=(0, 0))
    K = block_diag(A, empty, B)
    asked = requests(K, 7)
    fn = compile_with([A, B, empty], list(asked.values()), BY_PARTS)
    plain = compile_raw([A, B], list(requests(block_diag(A, B), 7).values()))
    first, last = values()[:2]
    assert_equal(fn(first, last, np.empty((0, 0))), plain(first, last), asked)
