"""Gradients and Hessian-vector products by every strategy are exact, against 50-digit differences.

``gradient_helpers`` holds the matrices, the requests and their reference values.
"""

import numpy as np
import pytensor.tensor as pt
import pytest
from gradient_helpers import (
    CHOLESKY_IDIOMS,
    DIRECTION,
    OPERATORS,
    REQUESTS,
    SPD,
    VALUES,
    inputs_for,
    reference,
    wrt,
)
from helpers import chosen, compile_with, forced, in_turn, relative_error

import autotune
from autotune.strategies import STRATEGIES

SOLVES = {"solve_vector", "solve_matrix", "quadratic_form", "whitened_square"}
# Largest error of a part's gradient relative to its largest entry; conjugate gradients stop at 1e-10.
TOLERANCE = {True: 1e-12, False: 1e-10}

# Of other matrices than these: tests/test_parts.py, tests/test_pencils.py.
OF_PARTS = (
    "diagonal",
    "triangular",
    "banded",
    "quasiseparable",
    "toeplitz",
    "circulant",
    "sparse_ldl",
    "known_inverse",
    "low_rank_update",
    "spectrum",
)
OF_PARTS += ("kronecker", "block_diagonal", "product", "congruence", "inverse")
OF_PARTS += ("eliminate_first", "eliminate_last", "block_triangular", "permuted")
# What these strategies serve, and no more; another one's PolicyError skips the case.
SERVES = {
    "keep": lambda operator, request: True,
    "cholesky": lambda operator, request: operator in SPD,
    "cholesky_or_lu": lambda operator, request: True,
    "lu": lambda operator, request: request not in CHOLESKY_IDIOMS,
    "woodbury": lambda operator, request: operator.startswith("low_rank"),
    "cg": lambda operator, request: operator in SPD and request in SOLVES,
}
# PyTensor's pullback of a Cholesky factor asks for the factor itself, which these do not have.
WITHOUT_FACTOR = {"lu", "cholesky_or_lu", "woodbury", "cg"}
SERVED = {
    (strategy, operator): [
        request
        for request in REQUESTS
        if (operator in SPD or request not in CHOLESKY_IDIOMS)
        and SERVES.get(strategy.name, lambda *_: True)(operator, request)
    ]
    for strategy in STRATEGIES
    if strategy.exact and strategy.name not in OF_PARTS  # the others have their own tests
    for operator in OPERATORS
}
# Nightly only request by request, as other matrices are; always with all requests at once.
ALL_AT_ONCE = {
    ("cholesky_or_lu", "dense_spd"),
    ("lu", "dense_spd"),
    ("woodbury", "low_rank_indefinite"),
    ("woodbury", "low_rank_weighted"),
}
# Strategies that form the matrix see no structure: low-rank ones are then tried with all requests at once.
# What is kept is PyTensor's own.
CASES = [
    pytest.param(
        *(strategy, operator, request),
        id=f"{strategy.name}-{operator}-{request}",
        marks=[pytest.mark.slow]
        if strategy.name == "keep" or (strategy.name, operator) in ALL_AT_ONCE
        else [],
    )
    for (strategy, operator), requests in SERVED.items()
    for request in requests
    if strategy.structured or operator.startswith("dense")
]
TAKEN_BY_THE_USER = [
    case
    for case in CASES
    if not (case.values[0].name in WITHOUT_FACTOR and case.values[2] in CHOLESKY_IDIOMS)
]
JOINT = [
    pytest.param(strategy, operator, id=f"{strategy.name}-{operator}")
    for (strategy, operator), requests in SERVED.items()
    if requests
]


def functional(operator, *requests):
    """The variables, and the sum of the functionals of ``requests`` on one matrix."""
    inputs = inputs_for(operator)
    A = OPERATORS[operator].symbolic(inputs)
    return list(inputs.values()), sum(REQUESTS[r](A, inputs["b"], inputs["B"]) for r in requests)


def gradient(cost, inputs):
    return pt.grad(cost, inputs, disconnected_inputs="ignore")


def unless_declined(strategy, make):
    """What ``make`` gives, or a skipped test where a strategy without an entry in ``SERVES`` declines."""
    try:
        return make()
    except autotune.PolicyError as declined:
        if strategy.name in SERVES:
            raise
        pytest.skip(str(declined))


def evaluate(fn, operator):
    return fn(*(VALUES[name] for name in wrt(operator)))


def check(actual, expected, tolerance):
    for a, e in zip(actual, expected, strict=True):
        error = relative_error(a, e) if e.any() else np.abs(a).max()
        assert error < tolerance


@pytest.mark.parametrize(("strategy", "operator", "request_"), in_turn(TAKEN_BY_THE_USER, 7))
def test_gradient_that_the_user_took(strategy, operator, request_):
    inputs, cost = functional(operator, request_)
    outputs = [cost, *gradient(cost, inputs)]
    fn = unless_declined(strategy, lambda: compile_with(inputs, outputs, forced(strategy.name)))
    value, first, _ = reference(operator)[request_]
    assert set(chosen(fn)) == {strategy.name}
    check(evaluate(fn, operator), [np.array(value), *first], TOLERANCE[strategy.exact])


@pytest.mark.parametrize(("strategy", "operator", "request_"), in_turn(CASES, 7))
def test_gradient_and_hessian_vector_product_after_tune(strategy, operator, request_):
    inputs, cost = functional(operator, request_)
    policy = forced(strategy.name)
    tuned = unless_declined(strategy, lambda: autotune.tune(cost, policy))
    by_autodiff = gradient(tuned, inputs)
    along = sum((g * DIRECTION[name]).sum() for g, name in zip(by_autodiff, wrt(operator), strict=True))
    outputs = [tuned, *by_autodiff, *gradient(along, inputs)]
    fn = unless_declined(strategy, lambda: compile_with(inputs, outputs, policy))
    value, first, second = reference(operator)[request_]
    assert set(chosen(fn)) == {strategy.name}
    check(evaluate(fn, operator), [np.array(value), *first, *second], TOLERANCE[strategy.exact])


@pytest.mark.parametrize(("strategy", "operator"), in_turn(JOINT, 7))
def test_gradient_of_all_requests_of_one_matrix_after_tune(strategy, operator):
    """They share a factorisation. ``keep`` declines a determinant beside its logarithm."""
    declined = {"determinant"} if strategy.name == "keep" else set()
    requests = [r for r in SERVED[strategy, operator] if r not in declined]
    inputs, cost = functional(operator, *requests)
    policy = forced(strategy.name)
    tuned = unless_declined(strategy, lambda: autotune.tune(cost, policy))
    outputs = [tuned, *gradient(tuned, inputs)]
    fn = unless_declined(strategy, lambda: compile_with(inputs, outputs, policy))
    values, firsts, _ = zip(*(reference(operator)[r] for r in requests), strict=True)
    expected = [np.array(sum(values)), *(sum(parts) for parts in zip(*firsts, strict=True))]
    check(evaluate(fn, operator), expected, TOLERANCE[strategy.exact])


def test_reference_is_the_analytic_gradient():
    """``d log|det A| / dA = A^-T`` and ``d2 = -tr(A^-1 Q A^-1 dA)`` for A = M (Giles 2008)."""
    inverse = np.linalg.inv(VALUES["M"])
    value, first, second = reference("dense_general")["slogdet"]
    assert value == pytest.approx(np.linalg.slogdet(VALUES["M"])[1], rel=1e-13)
    assert relative_error(first[0], inverse.T) < 1e-13
    assert relative_error(second[0], -(inverse @ DIRECTION["M"] @ inverse).T) < 1e-13
