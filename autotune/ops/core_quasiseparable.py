"""Covariances of points on a line that are sums of polynomials times exponentials. Runs in Python and Numba.

``K[i, j] = sum_b e_b(r) sum_m c_bm r^m`` for i > j, r the distance, ``e_b(r) = exp(-rate_b r)``, or
``rate_b ** r`` of a power; ``K[i, i] = d_i``. A block of s coefficients is a state of s numbers:
``K[i, j] = c' A_i ... A_{j+1} q`` with ``A_i = e_b(step_i) N(step_i)``, ``N_ab = binom(a, b) step^(a-b)``,
and q the first number of each block. All is O(n) in time and memory (Eidelman & Gohberg 1999; Foreman-Mackey
et al. 2017).
"""

import numpy as np


def decays(steps, rates, powers):
    """``e_b`` of each step (n, blocks)."""
    E = np.empty((steps.size, rates.size))
    for i in range(steps.size):
        for b in range(rates.size):
            E[i, b] = rates[b] ** steps[i] if powers[b] else np.exp(-rates[b] * steps[i])
    return E


def slope(step, rate, power, decay):
    """``d e_b / d rate_b``"""
    if not power:
        return -step * decay
    return step * rate ** (step - 1.0) if step != 0 else 0.0


def advance(X, step, decay, sizes, unit):
    """In place: ``A X``, or ``N X`` if ``unit``, of the states in the rows of X."""
    start = 0
    for b in range(sizes.size):
        scale = 1.0 if unit else decay[b]
        for a in range(sizes[b] - 1, -1, -1):
            for c in range(X.shape[1]):
                total, weight = X[start + a, c], 1.0
                for k in range(1, a + 1):  # weight: binom(a, a - k) step^k
                    weight *= step * (a - k + 1) / k
                    total += weight * X[start + a - k, c]
                X[start + a, c] = scale * total
        start += sizes[b]


def retreat(X, step, decay, sizes):
    """In place: ``A' X``."""
    start = 0
    for b in range(sizes.size):
        for a in range(sizes[b]):
            for c in range(X.shape[1]):
                total, weight = X[start + a, c], 1.0
                for k in range(1, sizes[b] - a):  # weight: binom(a + k, a) step^k
                    weight *= step * (a + k) / k
                    total += weight * X[start + a + k, c]
                X[start + a, c] = decay[b] * total
        start += sizes[b]


def first_states(sizes, r):
    """q: 1 for the first state of each block."""
    q = np.zeros(r)
    start = 0
    for b in range(sizes.size):
        q[start] = 1.0
        start += sizes[b]
    return q


def factor(d, steps, c, rates, sizes, powers):
    """``(D, V, E, sign, log|det|)`` of ``K = L diag(D) L'``, ``L[i, j] = c' A_i ... A_{j+1} V_j / D_j``.

    All is NaN where some D is not positive. E: `decays`.
    """
    n, r = d.size, c.size
    E = decays(steps, rates, powers)
    D, V = np.empty(n, d.dtype), np.empty((n, r), d.dtype)
    F, q, logdet = np.zeros((r, r)), first_states(sizes, r), 0.0
    for i in range(n):
        if i > 0:
            advance(F, steps[i], E[i], sizes, False)
            advance(F.T, steps[i], E[i], sizes, False)
        pivot = np.float64(d[i])
        v = q.copy()
        for a in range(r):
            for b in range(r):
                v[a] -= F[a, b] * c[b]
        for a in range(r):
            pivot -= c[a] * (q[a] - v[a])
        if not pivot > 0:
            D[:] = np.nan
            V[:] = np.nan
            return D, V, E, np.nan, np.nan
        D[i] = pivot
        logdet += np.log(pivot)
        for a in range(r):
            V[i, a] = v[a]
            for b in range(r):
                F[a, b] += v[a] * v[b] / pivot
    return D, V, E, 1.0, logdet


def solve(D, V, E, steps, c, sizes, B):
    """``K^-1 B`` (n, m) from `factor`."""
    (n, m), r = B.shape, c.size
    X = np.empty((n, m), B.dtype)
    state = np.zeros((r, m))
    for i in range(n):
        if i > 0:
            advance(state, steps[i], E[i], sizes, False)
        for k in range(m):
            total = np.float64(B[i, k])
            for a in range(r):
                total -= c[a] * state[a, k]
            X[i, k] = total / D[i]
            for a in range(r):
                state[a, k] += V[i, a] / D[i] * total
    state[:] = 0
    for i in range(n - 1, -1, -1):
        for k in range(m):
            total = np.float64(X[i, k])
            for a in range(r):
                total -= V[i, a] / D[i] * state[a, k]
            X[i, k] = total
            for a in range(r):
                state[a, k] += c[a] * total
        retreat(state, steps[i], E[i], sizes)
    return X


def logdet_pullback(D, V, E, steps, c, rates, sizes, powers):
    """``d log det K`` by d, c and the rates: `factor` differentiated from its last step to the first."""
    n, r = V.shape
    F = np.zeros((n, r, r))  # the states of `factor` before each step
    G = np.zeros((r, r))
    for i in range(n):
        if i > 0:
            advance(G, steps[i], E[i], sizes, False)
            advance(G.T, steps[i], E[i], sizes, False)
        for a in range(r):
            for b in range(r):
                F[i, a, b] = G[a, b]
                G[a, b] += np.float64(V[i, a]) * V[i, b] / D[i]
    d_bar, c_bar, rates_bar = np.empty(n, D.dtype), np.zeros(r), np.zeros(rates.size)
    F_bar, v_bar, Fc, across = np.zeros((r, r)), np.zeros(r), np.zeros(r), np.empty((r, r))
    for i in range(n - 1, -1, -1):
        pivot = np.float64(D[i])
        if i < n - 1:  # from the state of the next row: A G A'
            for a in range(r):
                for b in range(r):
                    across[a, b] = F[i, a, b] + np.float64(V[i, a]) * V[i, b] / pivot
            add_slopes(rates_bar, F_bar, across, steps[i + 1], E[i + 1], rates, sizes, powers)
            retreat(F_bar, steps[i + 1], E[i + 1], sizes)
            retreat(F_bar.T, steps[i + 1], E[i + 1], sizes)
        pivot_bar = 1 / pivot
        for a in range(r):
            total = 0.0
            for b in range(r):
                total += F_bar[a, b] * V[i, b]
            v_bar[a] = 2 * total / pivot
            pivot_bar -= total * V[i, a] / pivot**2
        d_bar[i] = pivot_bar
        for a in range(r):
            Fc[a] = 0.0
            for b in range(r):
                Fc[a] += F[i, a, b] * c[b]
        for a in range(r):
            total = 0.0
            for b in range(r):
                total += F[i, a, b] * v_bar[b]
                F_bar[a, b] -= 0.5 * (v_bar[a] * c[b] + c[a] * v_bar[b]) + pivot_bar * c[a] * c[b]
            c_bar[a] -= total + 2 * pivot_bar * Fc[a]
    return d_bar, c_bar.astype(D.dtype), rates_bar.astype(D.dtype)


def add_slopes(rates_bar, F_bar, G, step, decay, rates, sizes, powers):
    """In place: the cotangents of the rates from that of ``A G A'``, which is symmetric; G is lost."""
    advance(G, step, decay, sizes, False)
    advance(G.T, step, decay, sizes, True)  # A G N'
    start = 0
    for b in range(sizes.size):
        total = 0.0
        for a in range(start, start + sizes[b]):
            for k in range(G.shape[0]):
                total += F_bar[a, k] * G[k, a]
        rates_bar[b] += 2 * slope(step, rates[b], powers[b], decay[b]) * total
        start += sizes[b]


def dot(d, steps, c, rates, sizes, powers, X):
    """``K X`` (n, m)."""
    (n, m), r = X.shape, c.size
    Y = np.empty((n, m), X.dtype)
    E, q = decays(steps, rates, powers), first_states(sizes, r)
    state = np.zeros((r, m))
    for i in range(n):
        if i > 0:
            advance(state, steps[i], E[i], sizes, False)
        for k in range(m):
            total = np.float64(d[i]) * X[i, k]
            for a in range(r):
                total += c[a] * state[a, k]
                state[a, k] += q[a] * X[i, k]
            Y[i, k] = total
    state[:] = 0
    for i in range(n - 1, -1, -1):
        for k in range(m):
            total = 0.0
            for a in range(r):
                total += q[a] * state[a, k]
                state[a, k] += c[a] * X[i, k]
            Y[i, k] += total
        retreat(state, steps[i], E[i], sizes)
    return Y


def outer(left, right, steps, c, rates, sizes, powers):
    """The pullback onto d, c and the rates of the matrix cotangent ``left right'``."""
    (n, m), r = left.shape, c.size
    E, q = decays(steps, rates, powers), first_states(sizes, r)
    d_bar, c_bar, rates_bar = np.empty(n, left.dtype), np.zeros(r), np.zeros(rates.size)
    both = np.empty((n, 2 * m))  # K and its cotangent are symmetric: left right' and right left'
    other = np.empty((n, 2 * m))
    for i in range(n):
        total = 0.0
        for k in range(m):
            total += np.float64(left[i, k]) * right[i, k]
            both[i, k], both[i, m + k] = right[i, k], left[i, k]
            other[i, k], other[i, m + k] = left[i, k], right[i, k]
        d_bar[i] = total
    states, state = np.empty((n, r, 2 * m)), np.zeros((r, 2 * m))  # before each transition, after it
    for i in range(n):
        for a in range(r):
            for k in range(2 * m):
                c_bar[a] += state[a, k] * other[i, k]
                state[a, k] += q[a] * both[i, k]
                states[i, a, k] = state[a, k]
        if i < n - 1:
            advance(state, steps[i + 1], E[i + 1], sizes, False)
    state[:] = 0
    for i in range(n - 1, 0, -1):
        for a in range(r):
            for k in range(2 * m):
                state[a, k] += c[a] * other[i, k]
        before = states[i - 1]
        advance(before, steps[i], E[i], sizes, True)
        start = 0
        for b in range(sizes.size):
            total = 0.0
            for a in range(start, start + sizes[b]):
                for k in range(2 * m):
                    total += state[a, k] * before[a, k]
            rates_bar[b] += slope(steps[i], rates[b], powers[b], E[i, b]) * total
            start += sizes[b]
        retreat(state, steps[i], E[i], sizes)
    return d_bar, c_bar.astype(left.dtype), rates_bar.astype(left.dtype)
