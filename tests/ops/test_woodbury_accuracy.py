"""Against 100-digit references: the low-rank Ops lose at most ten times what a dense factorisation loses.

Errors are the largest of several random problems of one kind: single rounding errors are luck. Where the
dense solution has no digit left (the condition number exceeds 1/eps), there is nothing to compare.
"""

import numpy as np
import pytest
import scipy.linalg
from helpers import in_turn
from little_noise import NAMES, exact, problem

N, K, SEEDS = 80, 6, range(3)

rng0 = np.random.default_rng(12)
PSI = rng0.uniform(0.5, 2, N)


def first(count, value):
    d = PSI.copy()
    d[:count] = value
    return d


DIAGONALS = {
    "well scaled": PSI,
    "uniformly tiny": np.full(N, 1e-10),
    "log-uniform": 10 ** rng0.uniform(-12, 6, N),
    "four tiny": first(4, 1e-14),
    "four zero": first(4, 0.0),
    "k tiny": first(K, 1e-14),
    "two scales": np.concatenate([np.full(3, 1e-9), np.full(15, 1e-3), PSI[18:]]),
}


def factors(name, rng):
    """U (n, k) of a kind."""
    U = rng.normal(size=(N, K))
    Q, W = np.linalg.qr(U)[0], np.linalg.qr(rng.normal(size=(K, K)))[0]
    match name:
        case "random":
            return U
        case "graded":
            return Q * np.geomspace(1e3, 1e-3, K)
        case "rotated graded":
            return Q * np.geomspace(1e3, 1e-3, K) @ W
        case "near-collinear":
            return U[:, :1] + 1e-7 * U


def right_hand_sides(U, rng):
    """Noise, a point in the range of U, and its dominant direction: where the Woodbury formula cancels."""
    return np.stack(
        [rng.normal(size=N), U @ rng.normal(size=K), np.linalg.svd(U, full_matrices=False)[0][:, 0]], 1
    )


def errors(low_rank, reference, solution, diagonal, logabsdet):
    X, exact_diagonal, _, exact_logabsdet = reference
    columns = [low_rank.relative_error(solution[:, j], X[:, j]) for j in range(X.shape[1])]
    return [
        *columns,
        low_rank.relative_error(diagonal, exact_diagonal),
        float(abs(logabsdet - exact_logabsdet)),
    ]


def limits(dense, reference, low_rank):
    """Ten times the dense errors and a few n eps; the log-determinant's own size counts, as a sum of n
    terms."""
    dense = np.max(dense, axis=0)
    floor = np.full(5, 4 * N * low_rank.eps)
    floor[4] += 4 * low_rank.eps * float(abs(reference[3]))
    return np.where((dense > 0.1) & (np.arange(5) < 3), np.inf, 10 * dense + floor)


@pytest.mark.parametrize("scaling", in_turn(DIAGONALS))
@pytest.mark.parametrize("kind", ["random", "graded", "rotated graded", "near-collinear"])
def test_as_accurate_as_cholesky(low_rank, scaling, kind):
    d, found, dense = DIAGONALS[scaling], [], []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        U = factors(kind, rng)
        B, K_ = right_hand_sides(U, rng), U @ U.T + np.diag(d)
        reference = low_rank.reference(d, U, U, B)
        solution, diagonal, sign, logabsdet, _ = low_rank.function(True, True)(d, U, np.ones(K), B)
        assert sign == reference[2] == 1
        found.append(errors(low_rank, reference, solution, diagonal, logabsdet))
        try:
            L = np.linalg.cholesky(K_)
        except np.linalg.LinAlgError:
            continue  # rounding makes the dense matrix indefinite: ours is the better algorithm
        inverse = scipy.linalg.cho_solve((L, True), np.eye(N))
        solved = scipy.linalg.cho_solve((L, True), B)
        dense.append(errors(low_rank, reference, solved, np.diag(inverse), 2 * np.log(np.diag(L)).sum()))
    if dense:
        limit = limits(dense, reference, low_rank)
        assert (np.max(found, axis=0) <= limit).all(), np.max(found, axis=0) / limit


SIGNED = {
    "well scaled": PSI,
    "mixed signs": PSI * np.where(np.arange(N) % 2, 1, -1),
    "four negative": first(4, -0.3),
    "four tiny": first(4, 1e-10),
    "four tiny negative": first(4, -1e-6),
    "uniformly small": 1e-6 * PSI,
    "log-uniform": 10 ** rng0.uniform(-6, 3, N) * np.where(np.arange(N) % 3, 1, -1),
}


def general_factors(name, rng):
    """U and V (n, k) of a kind."""
    U, V = rng.normal(size=(N, K)), rng.normal(size=(N, K))
    Q, R, W = np.linalg.qr(U)[0], np.linalg.qr(V)[0], np.linalg.qr(rng.normal(size=(K, K)))[0]
    grades = np.geomspace(1e2, 1e-2, K)
    match name:
        case "unrelated":
            return U, V
        case "downdate":
            return U, -U
        case "small downdate":
            return 0.05 * U, -0.05 * U
        case "almost singular downdate":
            return (1 - 1e-6) * Q, -Q
        case "graded":
            return Q * grades @ W, R * grades @ W


@pytest.mark.parametrize("scaling", in_turn(SIGNED))
@pytest.mark.parametrize(
    "kind", ["unrelated", "downdate", "small downdate", "almost singular downdate", "graded"]
)
def test_as_accurate_as_lu(low_rank, scaling, kind):
    d, found, dense = SIGNED[scaling], [], []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        U, V = general_factors(kind, rng)
        B, K_ = right_hand_sides(U, rng), U @ V.T + np.diag(d)
        reference = low_rank.reference(d, U, V, B)
        solution, diagonal, sign, logabsdet, _ = low_rank.function(False)(d, U, V, B)
        assert sign == reference[2]
        found.append(errors(low_rank, reference, solution, diagonal, logabsdet))
        lu = scipy.linalg.lu_factor(K_)
        inverse = scipy.linalg.lu_solve(lu, np.eye(N))
        dense_logdet = np.log(np.abs(np.diag(lu[0]))).sum()
        dense.append(
            errors(low_rank, reference, scipy.linalg.lu_solve(lu, B), np.diag(inverse), dense_logdet)
        )
    limit = limits(dense, reference, low_rank)
    assert (np.max(found, axis=0) <= limit).all(), np.max(found, axis=0) / limit


@pytest.mark.parametrize("linker", ["py", "numba"])
@pytest.mark.parametrize("kind", ["random", "groups", "nearly collinear columns", "several tiny entries"])
def test_compiled_code_and_python_obey_one_law(low_rank, kind, linker):
    """Backward errors of solutions are a few eps, and forward errors what that allows."""
    fn = low_rank.function(True, True, linker=linker)
    for noise in (1.0, 1e-4, 1e-8, 1e-11, 1e-14):
        values = problem(kind, noise, 0)
        U, c, d, B, _ = (values[name] for name in NAMES)
        X, diagonal, *_ = fn(d, U, c, B)
        expected = exact(kind, noise, 0)["inverse_diagonal"][1]
        limit = 10 * max(np.linalg.cond((U * c) @ U.T + np.diag(d)), len(d)) * np.finfo(float).eps
        assert np.abs(diagonal - expected).max() / expected.max() < limit
        assert backward_error(d, U, c, B, X) < 64 * np.finfo(float).eps


@pytest.mark.parametrize("linker", ["py", "numba"])
@pytest.mark.parametrize("kind", ["random", "groups", "nearly collinear columns", "several tiny entries"])
def test_coefficients_of_a_right_hand_side_in_the_range_obey_it_too(low_rank, kind, linker):
    """Of U in either memory order."""
    fn = low_rank.in_range(linker)
    for noise in (1.0, 1e-4, 1e-8, 1e-11, 1e-14):
        values = problem(kind, noise, 0)
        U, c, d, *_ = (values[name] for name in NAMES)
        Z = np.random.default_rng(1).normal(size=(U.shape[1], 3))
        B = U.astype(np.longdouble) @ Z
        for order in "CF":
            assert (
                backward_error(d, U, c, B, fn(d, np.array(U, order=order), c, Z)) < 64 * np.finfo(float).eps
            )


def backward_error(d, U, c, B, X):
    """The largest ``|b - K x| / |x|`` of the columns, rows in the scale of K; the residual in long double."""
    d, U, c, B, X = (array.astype(np.longdouble) for array in (d, U, c, B, X))
    K = (U * c) @ U.T + np.diag(d)
    scale = np.sqrt(np.diag(K))[:, None]
    lengths = (np.linalg.norm(x.astype(float), axis=0) for x in ((B - K @ X) / scale, X * scale))
    return np.max(np.divide(*lengths))
