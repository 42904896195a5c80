"""Kronecker products and block-diagonal matrices of parts that are not positive definite.

NaN, and the determinant zero, stand where plain PyTensor puts them on the dense matrix.
"""

import itertools

import numpy as np
import pytensor.tensor as pt
import pytest
from composites import (
    BY_PARTS,
    COMPOSITES,
    FACTS,
    INPUTS,
    A,
    B,
    C,
    assert_equal,
    factor_requests,
    gradients,
    loss_of,
    made,
    order_of,
    requests,
    s,
    thin,
    values,
)
from helpers import compile_plain, compile_with, in_turn, strategies
from pytensor.assumptions import assume
from pytensor.tensor.linalg import block_diag, cholesky, det, kron, slogdet

import autotune

pytestmark = pytest.mark.filterwarnings("ignore:An ill-conditioned matrix")  # that of NaN


def on_the_dense_matrix(K, asked):
    """Computes ``asked`` of a matrix that is an input, their ``loss_of`` and its gradient by ``INPUTS``.

    PyTensor's own rewrites take a factor of each part: NaN of two negative ones, and in some blocks only.
    """
    M = pt.matrix("M", shape=K.type.shape)
    outputs = list(asked(M).values())
    loss = loss_of(outputs)
    dense = compile_plain([M], [*outputs, loss, pt.grad(loss, M)])
    form = compile_plain(INPUTS, K)
    pull = compile_plain([*INPUTS, M], gradients((K * M).sum()))

    def compute(*given):
        *found, M_bar = dense(form(*given))
        return [*found, *pull(*given, M_bar)]

    return compute


SIGNS = {
    "definite": (1, 1),
    "the first negative definite": (-1, 1),
    "the last negative definite": (1, -1),
    "both negative definite": (-1, -1),
    "the first indefinite": ("indefinite", 1),
    "the last indefinite": (1, "indefinite"),
    "both indefinite": ("indefinite", "indefinite"),
    "the first negative, the last indefinite": (-1, "indefinite"),
    "a zero": (0, 1),
    "NaN": (np.nan, 1),
}
OF_ANY_SIGN = {
    "kron": lambda A, B, C: kron(A, B),
    "kron of three": lambda A, B, C: kron(kron(A, C), B),
    "negative in the middle": lambda A, B, C: kron(kron(C, A), -B),
    "blocks": lambda A, B, C: block_diag(A, B),
    "block of kron": lambda A, B, C: block_diag(C, kron(A, B)),
    "kron of blocks": lambda A, B, C: kron(A, block_diag(B, B)),
    "kron with a diagonal": lambda A, B, C: kron(s * pt.eye(2), kron(A, B)),
    "blocks with a diagonal": lambda A, B, C: block_diag(s * pt.eye(2), A, B),
    "kron of thin": lambda A, B, C: kron(s * thin, kron(A, B)),
}


def signed(matrix, sign):
    return (
        matrix - np.median(np.diag(matrix)) * np.eye(len(matrix)) if sign == "indefinite" else sign * matrix
    )


@pytest.mark.parametrize(("form", "door"), in_turn(itertools.product(OF_ANY_SIGN, ["mode", "tune"]), 18))
def test_nan_where_there_is_no_factor(form, door):
    K = OF_ANY_SIGN[form](*(FACTS["symmetric"](X) for X in (A, B, C)))
    n = order_of(K)
    asked = factor_requests(K, n)
    loss = loss_of(asked.values())
    plain = on_the_dense_matrix(K, lambda M: factor_requests(M, n))
    if door == "tune":
        mine = autotune.tune([*asked.values(), loss], BY_PARTS)
        mine += gradients(mine[-1])
    else:
        mine = [*asked.values(), loss, *gradients(loss)]
    fn = compile_with(INPUTS, mine, BY_PARTS)
    assert {*COMPOSITES} & {*strategies(fn)}
    for name, (first, last) in SIGNS.items():
        for scale in (1.3, -1.3) if "diagonal" in form or "thin" in form else (1.3,):
            given = values()
            given[0], given[1], given[5] = signed(given[0], first), signed(given[1], last), np.array(scale)
            with np.errstate(invalid="ignore", divide="ignore"):
                names = [f"{what}, {name}, {scale}" for what in (*asked, "loss", *"ABCUds")]
                assert_equal(fn(*given), plain(*given), names)


@pytest.mark.parametrize("form", in_turn(["block of kron", "kron", "blocks", "kron of blocks"], 4))
def test_one_request_on_the_factor_beside_one_on_the_matrix(form):
    K = OF_ANY_SIGN[form](*(FACTS["symmetric"](X) for X in (A, B, C)))
    n = order_of(K)
    whole, factor = requests(K, n), factor_requests(K, n)
    del factor["pos"]  # PyTensor believes its promise of the other solves
    kept = ("solve", "logdet", "sign", "inverse diagonal")
    fn = compile_with(INPUTS, [*(whole[name] for name in kept), *factor.values()], BY_PARTS)
    of_matrix = on_the_dense_matrix(K, lambda M: {name: requests(M, n)[name] for name in kept})
    of_factor = on_the_dense_matrix(K, lambda M: {name: factor_requests(M, n)[name] for name in factor})
    for name, (first, last) in SIGNS.items():
        if first in (1, -1, "indefinite"):
            given = values()
            given[0], given[1] = signed(given[0], first), signed(given[1], last)
            expected = [*of_matrix(*given)[: len(kept)], *of_factor(*given)[: len(factor)]]
            assert_equal(fn(*given), expected, [f"{what}, {name}" for what in (*kept, *factor)])


@pytest.mark.parametrize("form", ["kron", "blocks", "block of kron", "kron of three"])
def test_a_singular_part_has_the_determinant_zero(form):
    K = made(form)
    fn = compile_with(INPUTS, [*slogdet(K), det(K)], BY_PARTS)
    given = values()
    given[0][1] = 0.0
    with np.errstate(divide="ignore"):
        sign, logabsdet, determinant = fn(*given)
    assert (sign, logabsdet, determinant) == (0, -np.inf, 0)


@pytest.mark.parametrize("form", in_turn(["kron of three", "kron"]))
def test_a_whole_that_is_said_to_be_definite_may_have_negative_factors(form):
    K = assume(made(form, "symmetric"), positive_definite=True)
    asked = {**requests(K, order_of(K)), **factor_requests(K, order_of(K)), "factor": cholesky(K)}
    fn = compile_with(INPUTS, list(asked.values()), BY_PARTS)
    first, last, *rest = values()
    assert_equal(fn(-first, -last, *rest), fn(first, last, *rest), asked)
