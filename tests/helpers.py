"""What several test modules need: the Python linker, evaluation, and matrices to read."""

import sys

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.mode import Mode
from pytensor.tensor.linalg import cholesky, solve, solve_triangular

import autotune
import autotune.strategies
from autotune.algebra.diagonal import diagonal_term
from autotune.algebra.low_rank import low_rank_term
from autotune.algebra.sum import sum_term

N, K = 40, 3
FORCE_WOODBURY = {"rules": [{"force": "woodbury"}]}


def python_mode() -> Mode:
    """Fast to compile. Without what PyTensor 3.3's Python linker gets wrong.

    In place it writes to read-only views of diagonals; a fused reciprocal is in single precision
    under NumPy 2, and more than 32 operands are not fused but fail.
    """
    return Mode(linker="py", optimizer="fast_run").excluding("inplace", "fusion")


def forced(strategy, **rule):
    return {"rules": [{"force": strategy, **rule}]}


def compile_with(inputs, outputs, policy=None, base=None):
    mode = autotune.mode(policy, base=base or python_mode())
    return pytensor.function(inputs, outputs, mode=mode, on_unused_input="ignore")


def compile_plain(inputs, outputs, base=None):
    return pytensor.function(inputs, outputs, mode=base or python_mode(), on_unused_input="ignore")


def compile_raw(inputs, outputs, base=None):
    """By default the graph as it is written, by Python: what PyTensor makes of it takes longer to make, and
    computes the same."""
    return compile_plain(inputs, outputs, base or Mode(linker="py", optimizer=None))


def register(strategy, monkeypatch):
    """Put ``strategy`` at the end of the registry, for this test."""
    old = autotune.strategies.STRATEGIES
    for name, module in list(sys.modules.items()):
        if name.startswith("autotune.") and getattr(module, "STRATEGIES", None) is old:
            monkeypatch.setattr(module, "STRATEGIES", (*old, strategy))


def op_names(fn) -> list[str]:
    return [str(node.op) for node in fn.maker.fgraph.toposort()]


def largest_array(fn) -> int:
    """Most numbers in any array of static shape that the compiled graph makes."""
    shapes = [
        out.type.shape
        for node in fn.maker.fgraph.apply_nodes
        for out in node.outputs
        if hasattr(out.type, "shape") and None not in out.type.shape
    ]
    return max((int(np.prod(shape)) for shape in shapes), default=0)


def chosen(fn) -> list[str]:
    return [d.chosen for d in autotune.explain(fn).decisions]


def strategies(fn) -> list[str]:
    """The strategies of all decisions and of their parts."""
    left, found = list(autotune.explain(fn).decisions), []
    while left:
        decision = left.pop()
        found.append(decision.chosen)
        left += decision.parts
    return found


def of_factor(K, y):
    """What is asked of a Cholesky factor, by name."""
    L = cholesky(K)
    return {
        "pos": solve(K, y, assume_a="pos"),
        "whitened square": pt.sqr(solve_triangular(L, y, lower=True)).sum(),
        "log of factor": pt.log(pt.diagonal(L)).sum(),
        "is definite": pt.all(pt.diagonal(L) > 0),
    }


def assert_equal(mine, plain, tolerance=1e-9, together=False):
    """Of one dtype, NaN at the same places. ``together``: errors are relative to the largest of all."""
    largest = max(np.abs(other).max(initial=0) for other in plain) if together else 0.0
    for one, other in zip(mine, plain, strict=True):
        assert one.dtype == other.dtype
        one, other = one * 1.0, other * 1.0
        assert np.array_equal(np.isnan(one), np.isnan(other))
        if not np.isnan(other).any() and np.abs(one - other).any():
            error = relative_error(one, other)
            assert error < tolerance or error * np.abs(other).max() < tolerance * largest


def relative_error(actual, expected) -> float:
    """Largest error relative to the largest entry."""
    actual, expected = np.asarray(actual) * 1.0, np.asarray(expected) * 1.0
    if actual.shape != expected.shape:
        raise AssertionError(f"shapes {actual.shape} and {expected.shape} differ")
    if actual.size == 0:
        return 0.0
    return float(np.abs(actual - expected).max()) / max(float(np.abs(expected).max()), 1e-300)


def spd(n, rng, condition=10.0):
    """Symmetric positive definite with eigenvalues spread geometrically over ``condition``."""
    Q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    return (Q * np.geomspace(1, condition, n)) @ Q.T


# -- diagonal plus low rank, as people and canonicalisation write it ------------------------------

U = pt.matrix("U", shape=(N, K))
V = pt.matrix("V", shape=(N, K))
W = pt.matrix("W", shape=(K, N))
C = pt.matrix("C", shape=(K, K))
d = pt.vector("d", shape=(N,))
w = pt.vector("w", shape=(K,))
s, v = pt.scalars("s", "v")
INPUTS = [U, V, W, C, d, w, s, v]
_eye = pt.eye(N)
_X = pt.constant(np.random.default_rng(9).normal(size=(N, K)))
_arange = pt.arange(N)

STRUCTURED = {
    "gram_plus_diag": U @ U.T + pt.diag(d),
    "gram_plus_scaled_identity": U @ U.T + s**2 * _eye,
    "gram_plus_constant_identity": U @ U.T + 1e-3 * _eye,
    "inner_product_plus_diag": W.T @ W + pt.diag(d),
    "scaled_right": U @ U.T * v + _eye * s,
    "scaled_left_parses_apart": v * U @ U.T + s**2 * _eye,
    "divided": U @ U.T / s**2 + pt.diag(d),
    "two_times": (2 * U) @ U.T + pt.diag(d),
    "column_weights": (U * w) @ U.T + pt.diag(d),
    "column_weights_explicit": (U * w[None, :]) @ U.T + _eye * d[None, :],
    "weights_as_diagonal": U @ pt.diag(w) @ U.T + pt.diag(d),
    "core_matrix": U @ C @ U.T + pt.diag(d),
    "general_factors": U @ V.T + pt.diag(d),
    "outer_product": pt.outer(U[:, 0], U[:, 0]) + pt.diag(d),
    "outer_of_two": pt.outer(U[:, 0], V[:, 0]) + pt.diag(d),
    "minus_gram": pt.diag(d) - U @ U.T,
    "negated": -(pt.diag(d) + U @ U.T),
    "sum_scaled": v * (U @ U.T + pt.diag(d)),
    "several_terms": U @ U.T + V @ V.T + pt.diag(d) + 1e-6 * _eye,
    "mask_column": U @ U.T + _eye * d[:, None],
    "identity_over_scalar": U @ U.T + _eye / v,
    "diag_of_alloc": U @ U.T + pt.diag(pt.alloc(s, N)),
    "set_diagonal": U @ U.T + pt.zeros((N, N))[_arange, _arange].set(d),
    "incremented_diagonal": (U @ U.T)[_arange, _arange].inc(d),
    "fill_diagonal": U @ U.T + pt.fill_diagonal(pt.zeros((N, N)), s),
    "constant_diagonal": U @ U.T + np.diag(np.arange(1.0, N + 1)),
    "constant_gram": _X @ _X.T * v + pt.diag(d),
    "constant_gram_weighted": (_X * w) @ _X.T + s**2 * _eye,
    "rows_scaled": d[:, None] * (U @ V.T) + pt.diag(d),
    "transposed": (U @ V.T + pt.diag(d)).T,
}


def structured_values(seed=0):
    """Values for ``INPUTS``."""
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(N, K)),
        rng.normal(size=(N, K)),
        rng.normal(size=(K, N)),
        rng.normal(size=(K, K)),
        rng.uniform(0.5, 2, N),
        rng.uniform(0.5, 2, K),
        np.array(0.7),
        np.array(1.3),
    ]


def dense_value(matrix, values):
    """The matrix by PyTensor without any rewrite."""
    fn = pytensor.function(INPUTS, matrix, mode=Mode(linker="py", optimizer=None), on_unused_input="ignore")
    return fn(*values)


def diagonal_plus_low_rank(n, rank, *, beside=(), **facts):
    """``diag(d) + U diag(c) V'`` as plain data, with other terms ``beside`` it."""
    return sum_term(*beside, diagonal_term(n), low_rank_term(n, rank, **facts))


def in_turn(cases, every=2):
    """One case of every so many in each run, the others marked slow: all of them at night."""
    marked = [case if hasattr(case, "marks") else pytest.param(*_as_tuple(case)) for case in cases]
    return [
        case
        if i % every == 0
        else pytest.param(*case.values, id=case.id, marks=[*case.marks, pytest.mark.slow])
        for i, case in enumerate(marked)
    ]


def _as_tuple(case):
    return case if isinstance(case, tuple) else (case,)
