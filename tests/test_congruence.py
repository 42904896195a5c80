"""``U M U'`` around a definite matrix is read as the low-rank term that it is: no n x n array is left."""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import chosen, compile_raw, compile_with, in_turn, largest_array, relative_error, spd
from pytensor.assumptions import assume
from pytensor.tensor.linalg import cho_solve, cholesky, inv, slogdet, solve, solve_triangular

import autotune

N, M = 30, 3


def kernel(a, b):
    return pt.exp(-0.5 * ((a[:, None] - b[None]) ** 2).sum(-1))


def variables(known=True):
    shapes = {"P": (M, M), "U": (M, N), "X": (N, 2), "y": (N,), "s": ()}
    return {name: pt.tensor(name, shape=s if known else (None,) * len(s)) for name, s in shapes.items()}


def values():
    rng = np.random.default_rng(3)
    return {
        "P": spd(M, rng),
        "U": rng.normal(size=(M, N)),
        "X": rng.normal(size=(N, 2)),
        "y": rng.normal(size=N),
        "s": 0.7,
    }


def definite(P):
    return assume(P, positive_definite=True, symmetric=True)


def twice(v):
    """The two sides are computed apart, as kernels of (X, Z) and of (Z, X)."""
    Z = v["X"][:M]
    return kernel(v["X"], Z) @ solve(
        definite(kernel(Z, Z) + 0.1 * pt.eye(M)), kernel(Z, v["X"]), assume_a="pos"
    )


def phi(v):
    """Functions of the points, as of a Hilbert space approximation: transposes are lifted into products."""
    return pt.sin(v["X"][:, 0][:, None] * pt.arange(1, M + 1)[None, :]) * pt.sqrt(v["s"])


FORMS = {
    "solve": lambda v: v["U"].T @ solve(definite(v["P"]), v["U"], assume_a="pos"),
    "general solve": lambda v: v["U"].T @ solve(definite(v["P"]), v["U"]),
    "other side": lambda v: solve(definite(v["P"]), v["U"], assume_a="pos").T @ v["U"],
    "inverse": lambda v: v["U"].T @ inv(definite(v["P"])) @ v["U"],
    "by a factor": lambda v: v["U"].T @ cho_solve((cholesky(v["P"]), True), v["U"]),
    "by an upper factor": lambda v: v["U"].T @ cho_solve((cholesky(v["P"]).T, False), v["U"]),
    "product": lambda v: v["U"].T @ definite(v["P"]) @ v["U"],
    "factors": lambda v: v["U"].T @ cholesky(v["P"]) @ cholesky(v["P"]).T @ v["U"],
    "scaled": lambda v: pt.exp(v["s"]) * (v["U"].T @ (2.0 * solve(definite(v["P"]), v["U"], assume_a="pos"))),
    "halves": lambda v: (A := solve_triangular(cholesky(v["P"]), v["U"], lower=True)).T @ A,
    "computed twice": twice,
    "basis of functions": lambda v: phi(v) @ pt.diag(pt.exp(-v["P"][0])) @ phi(v).T,
}
LOSSES = {
    "inverse": lambda K, y: y @ inv(K) @ y + slogdet(K)[1],
    "factor": lambda K, y: (
        (solve_triangular(L := cholesky(K), y, lower=True) ** 2).sum() + pt.log(pt.diagonal(L)).sum()
    ),
}


def both(form, loss, v, tuned):
    """The compiled function, whose answers are plain PyTensor's, and those."""
    K = FORMS[form](v) + v["s"] ** 2 * pt.eye(v["y"].shape[0])
    value = LOSSES[loss](K, v["y"])
    inputs = list(v.values())

    def outputs(value):
        return [value, *pt.grad(value, inputs, disconnected_inputs="ignore")]

    fn = compile_with(inputs, outputs(autotune.tune(value) if tuned else value))
    plain = compile_raw(inputs, outputs(value))
    for mine, right in zip(fn(*values().values()), plain(*values().values()), strict=True):
        assert relative_error(mine, right) < 1e-9
    return fn


CASES = [(form, loss, tuned) for form in FORMS for loss in LOSSES for tuned in (False, True)]


@pytest.mark.parametrize(("form", "loss", "tuned"), in_turn(CASES, 23))
def test_value_and_gradient_by_few_columns(form, loss, tuned):
    fn = both(form, loss, variables(), tuned)
    assert "woodbury" in chosen(fn)
    assert largest_array(fn) < N * N


@pytest.mark.parametrize("form", in_turn(list(FORMS), 6))
def test_without_static_shapes(form):
    both(form, "inverse", variables(known=False), tuned=False)


@pytest.mark.parametrize("make", [lambda P: P, lambda P: -definite(P)], ids=["unknown", "negative"])
def test_what_is_not_known_to_be_definite_is_not_halved(make):
    v = variables()
    K = v["U"].T @ solve(make(v["P"]), v["U"]) + v["s"] ** 2 * pt.eye(N)
    value = v["y"] @ solve(K, v["y"]) + slogdet(K)[1]
    inputs = list(v.values())
    found = compile_with(inputs, value)(*values().values())
    assert relative_error(found, compile_raw(inputs, value)(*values().values())) < 1e-9


def test_more_columns_than_rows_stay_dense():
    U, P, y = pt.matrix("U", shape=(N, 5)), pt.matrix("P", shape=(N, N)), pt.vector("y", shape=(5,))
    K = U.T @ solve(definite(P), U, assume_a="pos") + pt.eye(5)
    fn = compile_with([U, P, y], y @ inv(K) @ y + slogdet(K)[1])
    assert "woodbury" not in chosen(fn)
