"""Nothing reads past an array: every Op refuses inputs that do not fit together, on every linker.

Each axis of each input is made longer and shorter by one. ``FREE`` are the axes that may be of any length.
"""

import contextlib
import itertools
from functools import cache

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.tensor.blockwise import Blockwise

import autotune.ops as ops
from autotune.ops import (
    core_banded,
    core_cholesky_or_lu,
    core_preconditioner,
    core_quasiseparable,
    core_schur,
    core_sparse,
    lowrank,
)
from autotune.ops.pattern import Pattern

N, K, M = 6, 2, 3
_rng = np.random.default_rng(0)
A = _rng.normal(size=(N, N))
SPD = A @ A.T + N * np.eye(N)
D, U, C, V = _rng.uniform(1, 2, N), _rng.normal(size=(N, K)), np.ones(K), _rng.normal(size=(N, K))
B = _rng.normal(size=(N, M))
LU = core_cholesky_or_lu.factor(A, False)
LU_IN_ROWS = np.ascontiguousarray(LU[0]), LU[1]
SPD_FACTOR, _, SPD_IS_CHOLESKY = core_cholesky_or_lu.factor(SPD, False)
SYMMETRIC = lowrank.factorise(True, D, U, C)[:6]
ELIMINATED_D = np.where(np.arange(N) < 1, 0.0, D)
ELIMINATED = lowrank.factorise(True, ELIMINATED_D, U, C)[:6]
GENERAL = lowrank.factorise(False, D, U, V)[:6]
DENSE = lowrank.factorise(False, ELIMINATED_D, U, V)[:6]
JACOBI = core_preconditioner.build_arrays(SPD, 2)
PARTS = D, U, C

BAND = {"lower": 3, "upper": 1, "mirrored": False}
AB = _rng.normal(size=(5, N)) + np.arange(5)[:, None]
BAND_LU = core_banded.factor(AB, 3, 1, False, True, False)[:3]
MIRRORED = {"lower": 1, "upper": 1, "mirrored": True}
BANDS = np.stack([4 + D, D / 2])
BAND_LDL = core_banded.factor(BANDS, 1, 1, True, True, True)[:3]
STEPS, COEFFICIENTS = np.full(N, 0.5), np.array([0.4, 0.2, 0.3, 0.1])
RATES = np.array([1.0, 0.6, 2.0])
BLOCKS = np.array([2, 1, 1]), np.array([0, 1, 0])
LINE = STEPS, COEFFICIENTS, RATES, *BLOCKS
COLUMN = np.exp(-np.arange(N))
INVERSE_COLUMN = core_schur.factor(COLUMN)[0]
LINE_FACTOR = core_quasiseparable.factor(D, *LINE)[:3]
PLACES = np.flatnonzero(np.tril(np.ones((N, N)) * (np.arange(N) % 2 == 0)[:, None] + np.eye(N)).T)
PATTERN = Pattern.of(N, PLACES)
ENTRIES = np.where(PATTERN.rows == PATTERN.columns, 9.0, 1.0)
SPARSE_FACTOR = core_sparse.factor(ENTRIES, PATTERN.plan)[0]

# Of every Op: an instance, and inputs that it accepts.
CASES = {
    "Gram": (ops.Gram(), [U]),
    "CholeskyInverse": (ops.CholeskyInverse(), [np.linalg.cholesky(SPD)]),
    "CholeskySolveMany": (ops.CholeskySolveMany(), [np.linalg.cholesky(SPD), B]),
    "LUInverse": (ops.LUInverse(), [*LU_IN_ROWS]),
    "CholeskyOrLU": (ops.CholeskyOrLU(), [A]),
    "FactorOrNaN": (ops.FactorOrNaN(), [SPD, np.ascontiguousarray(SPD_FACTOR), SPD_IS_CHOLESKY]),
    "CholeskyOrLUSolve": (ops.CholeskyOrLUSolve(), [*LU, B]),
    "CholeskyOrLUInverse": (ops.CholeskyOrLUInverse(), list(LU)),
    "ExchangeSign": (ops.ExchangeSign(), [LU_IN_ROWS[1]]),
    "FactorSlogdet": (ops.FactorSlogdet(), [*LU_IN_ROWS, np.int8(0)]),
    "SharedCholesky": (ops.SharedCholesky(), [SPD]),
    "SharedLU": (ops.SharedLU(), [A]),
    "LowRankFactor": (ops.LowRankFactor(symmetric=True, positive_definite=True), [*PARTS]),
    "LowRankSolve": (ops.LowRankSolve(symmetric=True), [*PARTS, *SYMMETRIC, B]),
    "LowRankSolveColumns": (ops.LowRankSolveColumns(), [*PARTS, *SYMMETRIC]),
    "LowRankSolveInRange": (ops.LowRankSolveInRange(), [*PARTS, *SYMMETRIC, U.T @ B]),
    "LowRankInverseDiagonal": (ops.LowRankInverseDiagonal(symmetric=True), [*PARTS, *SYMMETRIC]),
    "BandedFactor": (ops.BandedFactor(definite=True, checked=False, **BAND), [AB]),
    "BandedSolve": (ops.BandedSolve(**BAND), [*BAND_LU, B]),
    "BandedLogdetPullback": (ops.BandedLogdetPullback(**BAND), [*BAND_LU]),
    "BandedDot": (ops.BandedDot(**BAND), [AB, B]),
    "BandedOuter": (ops.BandedOuter(**BAND), [B, B]),
    "QuasiseparableFactor": (ops.QuasiseparableFactor(), [D, *LINE]),
    "QuasiseparableSolve": (
        ops.QuasiseparableSolve(),
        [*LINE_FACTOR, STEPS, COEFFICIENTS, BLOCKS[0], B],
    ),
    "QuasiseparableLogdetPullback": (ops.QuasiseparableLogdetPullback(), [*LINE_FACTOR, *LINE]),
    "QuasiseparableDot": (ops.QuasiseparableDot(), [D, *LINE, B]),
    "QuasiseparableOuter": (ops.QuasiseparableOuter(), [B, B, *LINE]),
    "ToeplitzFactor": (ops.ToeplitzFactor(), [COLUMN]),
    "ToeplitzSolve": (ops.ToeplitzSolve(), [COLUMN, INVERSE_COLUMN, B]),
    "ToeplitzDot": (ops.ToeplitzDot(), [COLUMN, B]),
    "ToeplitzOuter": (ops.ToeplitzOuter(), [B, B]),
    "CirculantFactor": (ops.CirculantFactor(), [COLUMN]),
    "CirculantSolve": (ops.CirculantSolve(), [COLUMN, B]),
    "CirculantDot": (ops.CirculantDot(), [COLUMN, B]),
    "CirculantOuter": (ops.CirculantOuter(), [B, B]),
    "SparseFactor": (ops.SparseFactor(), [ENTRIES, PATTERN.plan]),
    "SparseSolve": (ops.SparseSolve(), [SPARSE_FACTOR, B, PATTERN.plan]),
    "SparseLogdetPullback": (ops.SparseLogdetPullback(), [SPARSE_FACTOR, PATTERN.plan]),
    "SparseDot": (ops.SparseDot(), [ENTRIES, B, PATTERN.rows, PATTERN.columns]),
    "SparseOuter": (ops.SparseOuter(), [B, B, PATTERN.rows, PATTERN.columns]),
    "SymmetricRoot": (ops.SymmetricRoot(), [SPD]),
    "BlockCG": (
        ops.BlockCG(),
        [SPD, B, 1e-8, np.int64(50), *JACOBI, np.linalg.cholesky(SPD).T, *PARTS, SPD, *PARTS],
    ),
    "PartialCholesky": (ops.PartialCholesky(), [SPD, np.int64(2), *PARTS]),
    "LanczosLogdet": (
        ops.LanczosLogdet(),
        [SPD, 1.0, np.int64(50), np.int64(0), *JACOBI, 9.0, *PARTS],
    ),
}
# The only lengths that are nobody else's: (input, axis) of columns to solve for.
FREE = {
    "Gram": {(0, 0), (0, 1)},
    "BandedFactor": {(0, 1)},
    "BandedSolve": {(3, 1), (0, 1)},
    "BandedLogdetPullback": {(0, 0), (0, 1)},
    "BandedDot": {(1, 1)},
    "QuasiseparableSolve": {(6, 1)},
    "QuasiseparableDot": {(6, 1)},
    "ToeplitzFactor": {(0, 0)},
    "ToeplitzSolve": {(2, 1)},
    "ToeplitzDot": {(1, 1)},
    "CirculantFactor": {(0, 0)},
    "CirculantSolve": {(1, 1)},
    "CirculantDot": {(1, 1)},
    "SparseSolve": {(1, 1)},
    "SparseDot": {(1, 1)},
    "CholeskyOrLUSolve": {(3, 1)},
    "CholeskySolveMany": {(1, 1)},
    "LowRankSolve": {(9, 1)},
    "LowRankSolveInRange": {(9, 1)},
    "BlockCG": {(1, 1)},
    "ExchangeSign": {(0, 0)},
}
# Further factors that the same Ops take.
MORE = {
    "BandedFactor": [(ops.BandedFactor(definite=True, checked=True, **MIRRORED), [BANDS])],
    "BandedSolve": [(ops.BandedSolve(**MIRRORED), [*BAND_LDL, B])],
    "BandedLogdetPullback": [(ops.BandedLogdetPullback(**MIRRORED), [*BAND_LDL])],
    "LowRankFactor": [
        (ops.LowRankFactor(symmetric=True), [*PARTS]),
        (ops.LowRankFactor(symmetric=False), [D, U, V]),
    ],
    "LowRankSolve": [
        (ops.LowRankSolve(symmetric=True), [ELIMINATED_D, U, C, *ELIMINATED, B]),
        (ops.LowRankSolve(symmetric=False), [D, U, V, *GENERAL, B]),
        (ops.LowRankSolve(symmetric=False, transposed=True), [ELIMINATED_D, U, V, *DENSE, B]),
    ],
    "LowRankSolveColumns": [(ops.LowRankSolveColumns(), [ELIMINATED_D, U, C, *ELIMINATED])],
    "LowRankSolveInRange": [(ops.LowRankSolveInRange(), [ELIMINATED_D, U, C, *ELIMINATED, U.T @ B])],
    "LowRankInverseDiagonal": [
        (ops.LowRankInverseDiagonal(symmetric=True), [ELIMINATED_D, U, C, *ELIMINATED]),
        (ops.LowRankInverseDiagonal(symmetric=False), [D, U, V, *GENERAL]),
        (ops.LowRankInverseDiagonal(symmetric=False), [ELIMINATED_D, U, V, *DENSE]),
    ],
}
WRONG = [(name, 0) for name in CASES] + [
    (name, i + 1) for name, more in MORE.items() for i in range(len(more))
]


def case(name, which):
    return CASES[name] if which == 0 else MORE[name][which - 1]


def variables(inputs):
    return [pt.tensor(dtype=x.dtype, shape=(None,) * x.ndim) for x in map(np.asarray, inputs)]


@cache
def compiled(name, which, linker):
    op, inputs = case(name, which)
    given = variables(inputs)
    mode = pytensor.compile.mode.Mode(linker=linker, optimizer=None)
    return pytensor.function(given, op(*given, return_list=True), mode=mode)


def call(name, which, linker, inputs):
    return compiled(name, which, linker)(*inputs)


def changed(array, axis, by):
    """``array`` longer by one along ``axis``, or shorter."""
    if by < 0:
        return np.delete(array, -1, axis)
    shape = [1 if a == axis else n for a, n in enumerate(array.shape)]
    return np.concatenate([array, np.ones(shape, array.dtype)], axis)


def alike(x, old):
    """``x`` in the memory order of ``old``: another one is another compilation to Numba."""
    return np.array(x, order="F" if old.flags.f_contiguous and not old.flags.c_contiguous else "C")


def right_inputs(name, which):
    """Copies of the inputs that an Op accepts, in the memory order in which other Ops give them."""
    return [alike(x, x) for x in map(np.asarray, case(name, which)[1])]


def wrong_inputs(name, which):
    """``(input, axis, by)`` and all inputs. What is empty and stays so has nothing to read."""
    inputs = right_inputs(name, which)
    for i, array in enumerate(inputs):
        for axis, by in itertools.product(range(array.ndim), (-1, 1)):
            if (i, axis) in FREE.get(name, ()) or array.shape[axis] + by < 0:
                continue
            wrong = alike(changed(array, axis, by), array)
            if wrong.size or array.size:
                yield (i, axis, by), [*inputs[:i], wrong, *inputs[i + 1 :]]


def accepted(name, which, linker):
    """The wrong inputs that did not raise ValueError; anything else that is raised fails the test."""
    call(name, which, linker, right_inputs(name, which))
    found = []
    for what, inputs in wrong_inputs(name, which):
        with contextlib.suppress(ValueError):
            call(name, which, linker, inputs)
            found.append(what)
    return found


def test_every_op_is_tried():
    found = {name for name in ops.__all__ if isinstance(getattr(ops, name), type)}
    assert found == set(CASES)


@pytest.mark.parametrize("linker", ["py", "cvm"])
@pytest.mark.parametrize(("name", "which"), WRONG)
def test_wrong_lengths_are_refused(name, which, linker):
    assert accepted(name, which, linker) == []


@pytest.mark.parametrize("name", CASES)
def test_wrong_lengths_are_refused_under_numba(name):
    assert accepted(name, 0, "numba") == []


GUFUNCS = [name for name, (op, _) in CASES.items() if hasattr(op, "gufunc_signature")]


def batches(inputs, lengths):
    """Every input repeated along a leading axis, of these lengths."""
    return [np.repeat(np.asarray(x)[None], n, axis=0) for x, n in zip(inputs, lengths, strict=True)]


@cache
def batched(name, linker):
    op, inputs = CASES[name]
    given = [pt.tensor(dtype=x.dtype, shape=(None,) * x.ndim) for x in batches(inputs, [2] * len(inputs))]
    mode = pytensor.compile.mode.Mode(linker=linker, optimizer=None)
    return pytensor.function(given, Blockwise(op)(*given, return_list=True), mode=mode)


LINKERS = ["py", "cvm", pytest.param("numba", marks=pytest.mark.slow)]


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("name", GUFUNCS)
def test_batches_that_differ_are_refused(name, linker):
    """PyTensor does not broadcast a length of one that it did not know of when it compiled."""
    inputs = CASES[name][1]
    fn = batched(name, linker)
    fn(*batches(inputs, [2] * len(inputs)))
    for i, wrong in itertools.product(range(len(inputs)), (1, 3)):
        lengths = [wrong if i == j else 2 for j in range(len(inputs))]
        if len(inputs) > 1:
            with pytest.raises(ValueError, match=r"\w+ \w+"):
                fn(*batches(inputs, lengths))


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("name", GUFUNCS)
def test_an_empty_batch_is_what_it_is_to_pytensor(name, linker):
    """Empty results under Numba; the other linkers refuse it, whatever the Op."""
    inputs = CASES[name][1]
    fn, nothing = batched(name, linker), batches(inputs, [0] * len(inputs))
    if linker == "numba":
        some, none = fn(*batches(inputs, [2] * len(inputs))), fn(*nothing)
        assert [x.shape for x in none] == [(0, *x.shape[1:]) for x in some]
    else:
        with pytest.raises(NotImplementedError, match="zero size"):
            fn(*nothing)


def without_rows(name):
    """Inputs of a matrix of order zero, and of rank zero where it has a rank."""
    if name.startswith("Sparse"):
        plan = np.zeros(core_sparse.HEADER + 3, np.int32)
        return [plan if x is PATTERN.plan else x[:0] for x in CASES[name][1]]
    return [
        np.zeros([0 if n in (N, K) else n for n in np.shape(x)], np.asarray(x).dtype)
        if {N, K} & {*np.shape(x)}
        else x
        for x in CASES[name][1]
    ]


# An empty array is in C order, for which Numba would compile these anew; test_cholesky_or_lu has empty ones.
IN_COLUMNS = ("CholeskyOrLUSolve", "CholeskyOrLUInverse")
WITHOUT_ROWS = [
    pytest.param(name, linker, marks=[pytest.mark.slow] if linker == "numba" and name in IN_COLUMNS else [])
    for name in CASES
    for linker in ("py", "cvm", "numba")
]


@pytest.mark.parametrize(("name", "linker"), WITHOUT_ROWS)
def test_a_matrix_of_order_zero_is_answered(name, linker):
    outputs = call(name, 0, linker, without_rows(name))
    assert all(np.isfinite(out).all() for out in outputs)


@pytest.mark.parametrize("linker", ["py", "cvm", "numba"])
@pytest.mark.parametrize(("name", "rhs"), [("CholeskyOrLUSolve", 3), ("LowRankSolve", 9), ("BlockCG", 1)])
def test_no_right_hand_sides_give_no_solutions(name, rhs, linker):
    inputs = list(CASES[name][1])
    inputs[rhs] = inputs[rhs][:, :0]
    assert call(name, 0, linker, inputs)[0].shape == (N, 0)
