"""Covariances of points on a line that are sums of polynomials times exponentials. Runs in Python and Numba.

``K[i, j] = sum_b e_b(r) sum_m c_bm r^m`` for i > j, r the distance, ``e_b(r) = exp(-rate_b r)``, or
``rate_b ** r`` of a power; ``K[i, i] = d_i``. A block of s coefficients is a state of s numbers:
``K[i, j] = c' A_i ... A_{j+1} q`` with ``A_i = e_b(step_i) N(step_i)``, ``N_ab = binom(a, b) step^(a-b)``,
and q the first number of each block. All is O(n) in time and memory (Eidelman & Gohberg 1999; Foreman-Mackey
et al. 2017).

No loop takes a view of an array: compiled code would count its references, which takes longer than the rest.
"""

import numpy as np

TINY = 1e-150  # for the base 0 of a power: its logarithmic derivative is finite, and its square no number


def decays(steps, rates, powers):
    """``e_b`` of each step (n, blocks)."""
    E = np.empty((steps.size, rates.size))
    for b in range(rates.size):
        rate = np.float64(rates[b])
        if powers[b]:
            base = rate if rate != 0 else TINY
            for i in range(steps.size):
                E[i, b] = base ** steps[i]
        else:
            for i in range(steps.size):
                E[i, b] = np.exp(-rate * steps[i])
    return E


def slope(step, rate, power):
    """``d log e_b / d rate_b``"""
    if not power:
        return -step
    return step / rate if rate != 0 else step / TINY


def starts_of(sizes):
    """The first state of each block, and how many there are in all."""
    starts = np.zeros(sizes.size + 1, np.int64)
    for b in range(sizes.size):
        starts[b + 1] = starts[b] + sizes[b]
    return starts


def blocks_of(sizes, r):
    """The first and the last state of the block of each state."""
    first, last, starts = np.empty(r, np.int64), np.empty(r, np.int64), starts_of(sizes)
    for b in range(sizes.size):
        for a in range(starts[b], starts[b + 1]):
            first[a], last[a] = starts[b], starts[b + 1] - 1
    return first, last


def transition(A, step, E, i, sizes):
    """In place: the lower triangles of A become those of ``A_i``; by Pascal's rule. What is above stays 0."""
    start = 0
    for b in range(sizes.size):
        A[start, start] = E[i, b]
        for a in range(start + 1, start + sizes[b]):
            A[a, start] = step * A[a - 1, start]
            for k in range(start + 1, a + 1):
                A[a, k] = A[a - 1, k - 1] + step * A[a - 1, k]
        start += sizes[b]


def advance(A, first, X):
    """In place: ``A X``, of the states in the rows of X."""
    for a in range(X.shape[0] - 1, -1, -1):
        for k in range(X.shape[1]):
            total = A[a, a] * X[a, k]
            for b in range(first[a], a):
                total += A[a, b] * X[b, k]
            X[a, k] = total


def retreat(A, last, X):
    """In place: ``A' X``."""
    for a in range(X.shape[0]):
        for k in range(X.shape[1]):
            total = A[a, a] * X[a, k]
            for b in range(a + 1, last[a] + 1):
                total += A[b, a] * X[b, k]
            X[a, k] = total


def advance_both(A, first, F):
    """In place: ``A F A'`` of symmetric F."""
    advance(A, first, F)
    for a in range(F.shape[0]):
        for b in range(a, -1, -1):
            total = F[a, b] * A[b, b]
            for k in range(first[b], b):
                total += F[a, k] * A[b, k]
            F[a, b] = total
            F[b, a] = total


def retreat_both(A, last, F):
    """In place: ``A' F A`` of symmetric F."""
    retreat(A, last, F)
    for a in range(F.shape[0] - 1, -1, -1):
        for b in range(a, F.shape[0]):
            total = F[a, b] * A[b, b]
            for k in range(b + 1, last[b] + 1):
                total += F[a, k] * A[k, b]
            F[a, b] = total
            F[b, a] = total


def first_states(sizes, r):
    """q: 1 for the first state of each block."""
    q = np.zeros(r)
    start = 0
    for b in range(sizes.size):
        q[start] = 1.0
        start += sizes[b]
    return q


def condense(F, c, q, d, v):
    """The pivot ``d - c' F c``; in place ``v = q - F c``."""
    pivot = d
    for a in range(F.shape[0]):
        total = F[a, 0] * c[0]
        for b in range(1, F.shape[0]):
            total = total + F[a, b] * c[b]
        v[a] = q[a] - total
        pivot = pivot - c[a] * total
    return pivot


def admit(F, w, scale):
    """In place: ``F + scale w w'``."""
    for a in range(F.shape[0]):
        scaled = scale * w[a]
        for b in range(a + 1):
            F[a, b] = F[a, b] + scaled * w[b]
            F[b, a] = F[a, b]


def weighted(weights, state, k):
    """``weights' state`` of column k."""
    total = weights[0] * state[0, k]
    for a in range(1, state.shape[0]):
        total = total + weights[a] * state[a, k]
    return total


def add(state, k, weights, x):
    """In place: ``weights x`` is added to column k."""
    for a in range(state.shape[0]):
        state[a, k] = state[a, k] + weights[a] * x


def inner(first, last, left, right):
    """The sum of ``left * right`` over rows, from the first to before the last."""
    total = 0.0
    for a in range(first, last):
        for k in range(left.shape[1]):
            total = total + left[a, k] * right[a, k]
    return total


def uncondense(F, F_bar, c, w, pivot, c_bar, v_bar):
    """From the state F before a point, and the cotangent F_bar after it, that of its pivot.

    In place: F_bar becomes the cotangent of F, that of c is added, that of v (see `condense`) written.
    """
    r = F.shape[0]
    pivot_bar = 1 / pivot
    for a in range(r):
        total = F_bar[a, 0] * w[0]
        for b in range(1, r):
            total = total + F_bar[a, b] * w[b]
        v_bar[a] = 2 * total
        pivot_bar = pivot_bar - total * w[a]
    for a in range(r):
        # By c and by F c: of the pivot twice, of v once.
        total = F[a, 0] * (v_bar[0] + 2 * pivot_bar * c[0])
        for b in range(1, r):
            total = total + F[a, b] * (v_bar[b] + 2 * pivot_bar * c[b])
        c_bar[a] = c_bar[a] - total
        for b in range(a + 1):
            of_both = v_bar[a] * c[b] + c[a] * v_bar[b]
            F_bar[a, b] = F_bar[a, b] - 0.5 * of_both - pivot_bar * c[a] * c[b]
            F_bar[b, a] = F_bar[a, b]
    return pivot_bar


def factor(d, steps, c, rates, sizes, powers):
    """``(D, V, E, sign, log|det|)`` of ``K = L diag(D) L'``, ``L[i, j] = c' A_i ... A_{j+1} V_j``.

    All is NaN where some D is not positive. E: `decays`.
    """
    n, r = d.size, c.size
    E = decays(steps, rates, powers)
    D, V = np.empty(n, d.dtype), np.empty((n, r), d.dtype)
    q, logdet, (first, _) = first_states(sizes, r), 0.0, blocks_of(sizes, r)
    F, A, v = np.zeros((r, r)), np.zeros((r, r)), np.empty(r)
    for i in range(n):
        transition(A, steps[i], E, i, sizes)
        advance_both(A, first, F)
        pivot = condense(F, c, q, np.float64(d[i]), v)
        if not pivot > 0:
            D[:] = np.nan
            V[:] = np.nan
            return D, V, E, np.nan, np.nan
        D[i] = pivot
        logdet += np.log(pivot)
        admit(F, v, 1 / pivot)
        for a in range(r):
            V[i, a] = v[a] / pivot
    return D, V, E, 1.0, logdet


def solve(D, V, E, steps, c, sizes, B):
    """``K^-1 B`` (n, m) from `factor`."""
    (n, m), r = B.shape, c.size
    X = np.empty((n, m), B.dtype)
    state, A, w, (first, last) = np.zeros((r, m)), np.zeros((r, r)), np.empty(r), blocks_of(sizes, r)
    for i in range(n):
        transition(A, steps[i], E, i, sizes)
        advance(A, first, state)
        for a in range(r):
            w[a] = V[i, a]
        for k in range(m):
            total = B[i, k] - weighted(c, state, k)
            X[i, k] = total / D[i]
            add(state, k, w, total)
    state[:] = 0
    for i in range(n - 1, -1, -1):
        for a in range(r):
            w[a] = V[i, a]
        for k in range(m):
            total = X[i, k] - weighted(w, state, k)
            X[i, k] = total
            add(state, k, c, total)
        transition(A, steps[i], E, i, sizes)
        retreat(A, last, state)
    return X


def logdet_pullback(D, V, E, steps, c, rates, sizes, powers):
    """``d log det K`` by d, c and the rates: `factor` differentiated from its last step to the first."""
    n, r = V.shape
    states, starts = np.empty((n, r, r)), starts_of(sizes)  # those of `factor`, before each point
    F, A, w, (first, last) = np.zeros((r, r)), np.zeros((r, r)), np.empty(r), blocks_of(sizes, r)
    for i in range(n):
        transition(A, steps[i], E, i, sizes)
        advance_both(A, first, F)
        for a in range(r):
            w[a] = V[i, a]
            for b in range(r):
                states[i, a, b] = F[a, b]
        admit(F, w, np.float64(D[i]))
    d_bar, c_bar, rates_bar = np.empty(n, D.dtype), np.zeros(r), np.zeros(rates.size)
    F_bar, v_bar = np.zeros((r, r)), np.empty(r)
    for i in range(n - 1, -1, -1):
        for a in range(r):
            w[a] = V[i, a]
            for b in range(r):
                F[a, b] = states[i, a, b]
        d_bar[i] = uncondense(F, F_bar, c, w, np.float64(D[i]), c_bar, v_bar)
        for b in range(rates.size):
            total = inner(starts[b], starts[b + 1], F_bar, F)
            rates_bar[b] += 2 * slope(steps[i], rates[b], powers[b]) * total
        transition(A, steps[i], E, i, sizes)
        retreat_both(A, last, F_bar)
    return d_bar, c_bar.astype(D.dtype), rates_bar.astype(D.dtype)


def dot(d, steps, c, rates, sizes, powers, X):
    """``K X`` (n, m)."""
    (n, m), r = X.shape, c.size
    Y = np.empty((n, m), X.dtype)
    E, q, (first, last) = decays(steps, rates, powers), first_states(sizes, r), blocks_of(sizes, r)
    state, A = np.zeros((r, m)), np.zeros((r, r))
    for i in range(n):
        transition(A, steps[i], E, i, sizes)
        advance(A, first, state)
        for k in range(m):
            x = np.float64(X[i, k])
            Y[i, k] = d[i] * x + weighted(c, state, k)
            add(state, k, q, x)
    state[:] = 0
    for i in range(n - 1, -1, -1):
        for k in range(m):
            Y[i, k] += weighted(q, state, k)
            add(state, k, c, np.float64(X[i, k]))
        transition(A, steps[i], E, i, sizes)
        retreat(A, last, state)
    return Y


def outer(left, right, steps, c, rates, sizes, powers):
    """The pullback onto d, c and the rates of the matrix cotangent ``left right'``."""
    (n, m), r = left.shape, c.size
    E, q, (first, last) = decays(steps, rates, powers), first_states(sizes, r), blocks_of(sizes, r)
    d_bar, c_bar, rates_bar = np.zeros(n), np.zeros(r), np.zeros(rates.size)
    states, starts = np.empty((n, r, 2 * m)), starts_of(sizes)  # before each point
    # K and its cotangent are symmetric: columns of right, and then those of left.
    state, before, A = np.zeros((r, 2 * m)), np.empty((r, 2 * m)), np.zeros((r, r))
    for i in range(n):
        transition(A, steps[i], E, i, sizes)
        advance(A, first, state)
        for k in range(m):
            x, y = np.float64(left[i, k]), np.float64(right[i, k])
            d_bar[i] += x * y
            for a in range(r):
                c_bar[a] += state[a, k] * x + state[a, m + k] * y
                states[i, a, k], states[i, a, m + k] = state[a, k], state[a, m + k]
            add(state, k, q, y)
            add(state, m + k, q, x)
    state[:] = 0
    for i in range(n - 1, -1, -1):
        for a in range(r):
            for k in range(2 * m):
                before[a, k] = states[i, a, k]
        for k in range(m):
            add(state, k, c, np.float64(left[i, k]))
            add(state, m + k, c, np.float64(right[i, k]))
        for b in range(rates.size):
            total = inner(starts[b], starts[b + 1], state, before)
            rates_bar[b] += slope(steps[i], rates[b], powers[b]) * total
        transition(A, steps[i], E, i, sizes)
        retreat(A, last, state)
    return d_bar.astype(left.dtype), c_bar.astype(left.dtype), rates_bar.astype(left.dtype)
