"""Matrices in the steps of a Scan: what they are made of, states that stay symmetric, Kalman filters."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_raw, compile_with, in_turn, relative_error
from pytensor.tensor.linalg import slogdet, solve

import autotune

MANY, FEW, STEPS = 40, 2, 5
Z, T, A = (
    pt.matrix("Z", shape=(MANY, FEW)),
    pt.matrix("T", shape=(FEW, FEW)),
    pt.matrix("A", shape=(FEW, FEW)),
)
h, q = pt.vector("h", shape=(MANY,)), pt.vector("q", shape=(FEW,))
ys = pt.matrix("ys", shape=(STEPS, MANY))
INPUTS = [Z, T, A, h, q, ys]
rng = np.random.default_rng(3)
VALUES = [
    rng.normal(size=(MANY, FEW)),
    0.7 * np.eye(FEW) + 0.1 * rng.normal(size=(FEW, FEW)),
    rng.normal(size=(FEW, FEW)),
    rng.uniform(0.5, 1.5, MANY),
    rng.uniform(0.5, 1.5, FEW),
    rng.normal(size=(STEPS, MANY)),
]
ID = pt.eye(FEW)
UPDATES = {
    "predicted": lambda P, K, Z, F, H: T @ P @ T.T + pt.diag(q),
    "averaged": lambda P, K, Z, F, H: 0.5 * ((P @ T) + (P @ T).T),
    "Joseph": lambda P, K, Z, F, H: (ID - K @ Z) @ P @ (ID - K @ Z).T + K @ H @ K.T,
    "by the gain": lambda P, K, Z, F, H: P - K @ F @ K.T,
    "by one gain": lambda P, K, Z, F, H: P - K @ Z @ P,
    "transposed": lambda P, K, Z, F, H: (P - P @ Z.T @ K.T).T + T @ T.T,
    "unchanged": lambda P, K, Z, F, H: P,
}
NOT_SYMMETRIC = {
    "one side": lambda P, K, Z, F, H: T @ P + pt.diag(q),
    "another on each side": lambda P, K, Z, F, H: T @ P @ A.T,
    "difference": lambda P, K, Z, F, H: P + T - T.T,
    "gain of another": lambda P, K, Z, F, H: P - K @ Z @ T,
}


def loglike(update, start=None, mask=False, ys=ys):
    """The log-likelihood by a Kalman filter; with ``mask`` what is NaN was not observed."""

    def step(y, a, P, Z, T, h):
        H, error = pt.diag(h), y - Z @ a
        seen = pt.invert(pt.isnan(y)).astype("float64")
        if mask:
            Z, H, error = seen[:, None] * Z, pt.diag(seen * h), pt.switch(pt.isnan(y), 0.0, error)
        F = Z @ P @ Z.T + H
        if mask:
            F = F * pt.outer(seen, seen) + pt.diag(1 - seen)
        K = solve(F, Z @ P, assume_a="pos").T
        value = slogdet(F)[1] + error @ solve(F, error, assume_a="pos")
        return T @ (a + K @ error), update(P, K, Z, F, H), value

    first = [pt.zeros(FEW), ID if start is None else start, None]
    _, _, values = pytensor.scan(step, [ys], first, [Z, T, h], return_updates=False)
    return values.sum()


def decisions(fn):
    return [decision for steps in autotune.explain(fn).inner for decision in steps.decisions]


def problem_of(value):
    [decision] = decisions(compile_with(INPUTS, value))
    return decision.problem


@pytest.mark.parametrize("form", [*UPDATES, *NOT_SYMMETRIC])
def test_states_are_symmetric_by_induction(form):
    problem = problem_of(loglike((UPDATES | NOT_SYMMETRIC)[form]))
    assert problem.symmetric == (form in UPDATES)
    around = problem.term.find("low_rank").fact("around")
    assert bool(around) == (form in UPDATES)


@pytest.mark.parametrize(
    ("start", "symmetric"),
    [(A, False), (A + A.T, True), (pt.diag(q), True), (A @ A.T, True), (A @ A, False)],
)
def test_a_state_is_symmetric_only_if_it_begins_so(start, symmetric):
    assert problem_of(loglike(UPDATES["by one gain"], start)).symmetric == symmetric


def test_two_states_that_change_places_are_symmetric_together():
    def step(y, P, Q, Z, h):
        return T @ Q @ T.T, P + pt.eye(FEW), slogdet(Z @ P @ Z.T + pt.diag(h))[1] + y.sum()

    for second, symmetric in ((ID, True), (A, False)):
        _, _, values = pytensor.scan(step, [ys], [ID, second, None], [Z, h], return_updates=False)
        assert problem_of(values.sum()).symmetric == symmetric


@pytest.mark.parametrize("form", in_turn(list(UPDATES)))
def test_value_and_gradient_are_those_of_plain(form):
    value = loglike(UPDATES[form])
    outputs = [value, *pt.grad(value, [Z, T, h, q], disconnected_inputs="ignore")]
    tuned, plain = compile_with(INPUTS, outputs), compile_raw(INPUTS, outputs)
    assert {d.chosen for d in decisions(tuned)} == {"woodbury"}
    for actual, expected in zip(tuned(*VALUES), plain(*VALUES), strict=True):
        assert relative_error(actual, expected) < 1e-9


def missing(values):
    ys = values.copy()
    ys[1, : MANY // 2] = np.nan
    ys[2] = np.nan
    return ys


@pytest.mark.parametrize(
    "start", in_turn([pt.ones((FEW, FEW)), ID, pt.diag([1.0, 0.0]), pt.zeros((FEW, FEW))])
)
def test_what_is_missing_counts_for_nothing(start):
    """Of singular states too, which have no Cholesky factor."""
    value = loglike(UPDATES["predicted"], start, mask=True)
    outputs = [value, *pt.grad(value, [Z, T, h, q])]
    tuned, plain = compile_with(INPUTS, outputs), compile_raw(INPUTS, outputs)
    assert {d.chosen for d in decisions(tuned)} == {"woodbury"}
    values = [*VALUES[:-1], missing(VALUES[-1])]
    for actual, expected in zip(tuned(*values), plain(*values), strict=True):
        assert np.isfinite(expected).all()
        assert relative_error(actual, expected) < 1e-9
