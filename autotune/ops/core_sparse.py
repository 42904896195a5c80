"""Symmetric sparse matrices of a constant pattern: ``L D L'``, solves, products, and the entries of the
inverse on the pattern. Runs in Python and Numba.

Multifrontal (Duff & Reid 1983; Liu 1992): columns of L with one pattern are a front, a dense matrix of its k
columns and the r rows below them. What its elimination changes in those rows, its update, is added to the
front of its parent. ``plan`` (see `core_ordering`) holds what follows from the pattern: the fronts in an
order in which children come before parents, so that updates lie on a stack.

A factor is one vector: of each front the k rows of ``L'`` (k, k + r), D on their diagonal.
"""

from collections import namedtuple

import numpy as np

HEADER = 5
"""Numbers before the arrays of a plan: order, fronts, entries, rows below all fronts, root mean square of the
entries in a column of the factor."""
HEIGHT = 4
"""The place of the last of them."""
GROWTH = 100.0
"""So many times the largest entry of a matrix may be the sum of absolute values that makes one of its entries
from an indefinite factor: no pivots are exchanged."""

Plan = namedtuple("Plan", "order first rows_at entries_at parent rows above entry place")


def check_plan(plan):
    """That a plan has the lengths that it says. Raises ValueError."""
    fits = plan.size > HEADER
    if fits:
        n, fronts, entries, below = plan[0], plan[1], plan[2], plan[3]
        fits = plan.size == HEADER + n + 4 * fronts + 3 + 2 * below + 2 * entries
    if not fits:
        raise ValueError("The plan of a sparse matrix has another length than it says.")


def check_entries(data, plan):
    if data.size != plan[2]:
        raise ValueError("A sparse matrix has another number of entries than its pattern.")


def check_factor(L, plan):
    if L.size != room(plan)[0]:
        raise ValueError("The factor is that of another sparse matrix: it differs in length.")


def check_places(rows, columns, n):
    """That places lie in the lower triangle of a matrix of order n, the last of them at its end."""
    entries = rows.size
    fits = entries == columns.size and (columns[entries - 1] + 1 if entries else 0) == n
    for e in range(entries if fits else 0):
        fits = fits and 0 <= columns[e] <= rows[e] < n
    if not fits:
        raise ValueError("An entry of a sparse matrix lies outside of it, or has a row and no column.")


def opened(plan):
    """The arrays of a plan.

    Row i of the matrix is row ``order[i]`` of the factor. Front f has the columns ``first[f]`` to
    ``first[f + 1]``, the rows ``rows`` below them, which have the places ``above`` in its parent, and the
    entries ``entry`` of the matrix at ``place``.
    """
    n, fronts, entries, below = plan[0], plan[1], plan[2], plan[3]
    a = HEADER
    order = plan[a : a + n]
    a += n
    first = plan[a : a + fronts + 1]
    a += fronts + 1
    rows_at = plan[a : a + fronts + 1]
    a += fronts + 1
    entries_at = plan[a : a + fronts + 1]
    a += fronts + 1
    parent = plan[a : a + fronts]
    a += fronts
    rows = plan[a : a + below]
    a += below
    above = plan[a : a + below]
    a += below
    entry = plan[a : a + entries]
    a += entries
    place = plan[a : a + entries]
    return Plan(order, first, rows_at, entries_at, parent, rows, above, entry, place)


def room(plan):
    """Numbers in a factor; in the updates that lie on the stack together, at most; rows of a front, at
    most."""
    t = opened(plan)
    first, rows_at, parent = t.first, t.rows_at, t.parent
    fronts = parent.size
    of_factor, on_stack, most, largest = 0, 0, 0, 0
    waiting, count = np.empty(fronts, np.int64), 0
    for f in range(fronts):
        k, r = first[f + 1] - first[f], rows_at[f + 1] - rows_at[f]
        of_factor += np.int64(k) * (k + r)
        largest = max(largest, k + r)
        most = max(most, on_stack + np.int64(r) * r)
        while count > 0 and parent[waiting[count - 1]] == f:
            count -= 1
            child = waiting[count]
            below = np.int64(rows_at[child + 1] - rows_at[child])
            on_stack -= below * below  # type: ignore[assignment]
        waiting[count] = f
        count += 1
        on_stack += np.int64(r) * r
    return of_factor, most, largest


def factor(data, plan):
    """``(factor, negative, log|det|)``: the number of negative pivots.

    -1, and NaN, where a pivot is 0 or NaN, or the factor of an indefinite matrix grows.
    """
    t = opened(plan)
    first, rows_at, entries_at, parent, rows, above, entry, place = (
        t.first,
        t.rows_at,
        t.entries_at,
        t.parent,
        t.rows,
        t.above,
        t.entry,
        t.place,
    )
    fronts = parent.size
    of_factor, on_stack, _ = room(plan)
    L = np.zeros(of_factor, data.dtype)
    stack = np.empty(on_stack, data.dtype)
    waiting, count, top, start = np.empty(fronts, np.int64), 0, 0, 0
    negative, logabsdet = 0, 0.0
    for f in range(fronts):
        k, r = first[f + 1] - first[f], rows_at[f + 1] - rows_at[f]
        m = k + r
        P = L[start : start + k * m]
        for e in range(entries_at[f], entries_at[f + 1]):
            P[place[e]] += data[entry[e]]
        P = P.reshape(k, m)
        start += k * m
        U = stack[top : top + r * r]
        for i in range(r * r):
            U[i] = 0
        U = U.reshape(r, r)
        bottom = top
        while count > 0 and parent[waiting[count - 1]] == f:
            count -= 1
            child = waiting[count]
            places = above[rows_at[child] : rows_at[child + 1]]
            bottom -= places.size * places.size
            add_update(stack[bottom : bottom + places.size * places.size], places, P, U)
        found = eliminate(P)
        if found < 0:
            L[:] = np.nan
            return L, -1, np.nan
        negative += found
        for c in range(k):
            logabsdet += np.log(np.float64(abs(P[c, c])))
        subtract_update(P, U)
        if bottom < top:
            move(stack, top, bottom, r * r)
        top = bottom + r * r
        waiting[count] = f
        count += 1
    if negative > 0 and not is_stable(L, data, first, rows_at, rows, plan[0]):
        L[:] = np.nan
        return L, -1, np.nan
    return L, negative, logabsdet


def move(stack, source, target, size):
    for i in range(size):
        stack[target + i] = stack[source + i]


def add_update(child, places, P, U):
    """The update of a child, one triangle, to the rows of a front that are at ``places``."""
    k, size = P.shape[0], places.size
    for j in range(size):
        update = child[j * size : (j + 1) * size]
        at = places[j]
        if at < k:
            row, shift = P[at], 0
        else:
            row, shift = U[at - k], k
        for i in range(j, size):
            row[places[i] - shift] += update[i]


def eliminate(P):
    """In place: the rows of ``L'``, with D on their diagonal. The number of negative pivots, or -1."""
    k, m = P.shape
    negative = 0
    for j in range(k):
        pivot = P[j, j]
        if not abs(pivot) > 0:
            return -1
        negative += pivot < 0
        for c in range(j + 1, k):
            ratio = P[j, c] / pivot
            if ratio != 0:
                subtract(P[c, c:], ratio, P[j, c:])
        inverse = 1 / pivot
        for i in range(j + 1, m):
            P[j, i] *= inverse
    return negative


def subtract(row, ratio, other):
    """``row -= ratio other``, of two rows that do not overlap."""
    for i in range(other.size):
        row[i] -= ratio * other[i]


def subtract_four(row, a, A, b, B, c, C, d, D):
    for i in range(row.size):
        row[i] -= a * A[i] + b * B[i] + c * C[i] + d * D[i]


def subtract_update(P, U):
    """``U -= W' D W`` of the last columns W of the rows of ``L'``: one triangle, by four pivots at a time."""
    k, r = P.shape[0], U.shape[0]
    c = 0
    while c + 4 <= k:
        A, B, C, D = P[c, k:], P[c + 1, k:], P[c + 2, k:], P[c + 3, k:]
        dA, dB, dC, dD = P[c, c], P[c + 1, c + 1], P[c + 2, c + 2], P[c + 3, c + 3]
        for j in range(r):
            subtract_four(U[j, j:], dA * A[j], A[j:], dB * B[j], B[j:], dC * C[j], C[j:], dD * D[j], D[j:])
        c += 4
    while c < k:
        A, d = P[c, k:], P[c, c]
        for j in range(r):
            subtract(U[j, j:], d * A[j], A[j:])
        c += 1


def is_stable(L, data, first, rows_at, rows, n):
    """Whether ``diag(|L| |D| |L'|)`` is not much larger than the largest entry: it bounds the backward
    error."""
    total, start, largest = np.zeros(n, np.float64), 0, 0.0
    for e in range(data.size):
        largest = max(largest, np.float64(abs(data[e])))
    for f in range(first.size - 1):
        k, r = first[f + 1] - first[f], rows_at[f + 1] - rows_at[f]
        P = L[start : start + k * (k + r)].reshape(k, k + r)
        start += k * (k + r)
        for c in range(k):
            d = np.float64(abs(P[c, c]))
            total[first[f] + c] += d
            for i in range(c + 1, k):
                total[first[f] + i] += d * P[c, i] * P[c, i]
            for i in range(r):
                total[rows[rows_at[f] + i]] += d * P[c, k + i] * P[c, k + i]
    return total.max() <= GROWTH * largest


def solve(L, B, plan):
    """``A^-1 B`` (n, m) from `factor`."""
    t = opened(plan)
    order, first, rows_at, parent, rows = t.order, t.first, t.rows_at, t.parent, t.rows
    n, m = B.shape
    _, _, largest = room(plan)
    X = np.empty((n, m), B.dtype)
    Y = np.empty((largest, m), B.dtype)
    for i in range(n):
        for c in range(m):
            X[order[i], c] = B[i, c]
    start = 0
    for f in range(parent.size):
        k, r = first[f + 1] - first[f], rows_at[f + 1] - rows_at[f]
        P = L[start : start + k * (k + r)].reshape(k, k + r)
        start += k * (k + r)
        forward(P, X[first[f] : first[f + 1]], rows[rows_at[f] : rows_at[f + 1]], X, Y)
    for f in range(parent.size - 1, -1, -1):
        k, r = first[f + 1] - first[f], rows_at[f + 1] - rows_at[f]
        start -= k * (k + r)
        P = L[start : start + k * (k + r)].reshape(k, k + r)
        backward(P, X[first[f] : first[f + 1]], rows[rows_at[f] : rows_at[f + 1]], X, Y)
    out = np.empty((n, m), B.dtype)
    for i in range(n):
        for c in range(m):
            out[i, c] = X[order[i], c]
    return out


def forward(P, own, below, X, Y):
    """The rows of a front: ``own`` are solved with its triangle, and taken from those below."""
    k, r, m = P.shape[0], below.size, own.shape[1]
    if m == 1:
        for i in range(r):
            Y[i, 0] = 0
        for c in range(k):
            x = own[c, 0]
            for i in range(c + 1, k):
                own[i, 0] -= P[c, i] * x
            for i in range(r):
                Y[i, 0] += P[c, k + i] * x
        for i in range(r):
            X[below[i], 0] -= Y[i, 0]
        return
    for c in range(k):
        for i in range(c + 1, k):
            subtract(own[i], P[c, i], own[c])
        for i in range(r):
            subtract(X[below[i]], P[c, k + i], own[c])


def backward(P, own, below, X, Y):
    """``own = L_JJ^-T (D^-1 own - L_RJ' X_R)``."""
    k, r, m = P.shape[0], below.size, own.shape[1]
    if m == 1:
        for i in range(r):
            Y[i, 0] = X[below[i], 0]
        for c in range(k - 1, -1, -1):
            total = own[c, 0] / P[c, c]
            for i in range(c + 1, k):
                total -= P[c, i] * own[i, 0]
            for i in range(r):
                total -= P[c, k + i] * Y[i, 0]
            own[c, 0] = total
        return
    for c in range(k - 1, -1, -1):
        for j in range(m):
            own[c, j] /= P[c, c]
        for i in range(c + 1, k):
            subtract(own[c], P[c, i], own[i])
        for i in range(r):
            subtract(own[c], P[c, k + i], X[below[i]])


def logdet_pullback(L, plan):
    """``d log|det A| / d data``: the entries of the inverse on the pattern, twice those off the diagonal.

    From the last front to the first, each from the inverse at the rows below it (Takahashi, Fagan & Chin
    1973; Lin et al. 2011, "SelInv"), which the parent leaves on a stack.
    """
    t = opened(plan)
    first, rows_at, entries_at, parent, above, entry, place = (
        t.first,
        t.rows_at,
        t.entries_at,
        t.parent,
        t.above,
        t.entry,
        t.place,
    )
    fronts = parent.size
    _, on_stack, largest = room(plan)
    out = np.empty(entry.size, L.dtype)
    buffer, stack = np.empty(largest * largest, L.dtype), np.empty(on_stack, L.dtype)
    child, following = np.full(fronts, -1, np.int64), np.full(fronts, -1, np.int64)
    for f in range(fronts - 1, -1, -1):
        if parent[f] >= 0:
            following[f] = child[parent[f]]
            child[parent[f]] = f
    top, start = 0, L.size
    for f in range(fronts - 1, -1, -1):
        k, r = first[f + 1] - first[f], rows_at[f + 1] - rows_at[f]
        m = k + r
        start -= k * m
        P = L[start : start + k * m].reshape(k, m)
        Z = buffer[: m * m].reshape(m, m)
        top -= r * r
        for i in range(r):
            for j in range(r):
                Z[k + i, k + j] = stack[top + i * r + j]
        inverse_of_front(P, Z)
        for e in range(entries_at[f], entries_at[f + 1]):
            i, j = place[e] // m, place[e] % m
            out[entry[e]] = Z[i, j] if i == j else 2 * Z[i, j]
        c = child[f]
        while c >= 0:
            places = above[rows_at[c] : rows_at[c + 1]]
            size = places.size
            for i in range(size):
                gather(Z[places[i]], places, stack[top : top + size])
                top += size
            c = following[c]
    return out


def gather(row, places, out):
    for j in range(places.size):
        out[j] = row[places[j]]


def inverse_of_front(P, Z):
    """All of Z from its last rows and columns: ``Z L = L'^-1 D^-1``, which is 0 below the diagonal."""
    k, m = P.shape
    r = m - k
    for j in range(k):
        for i in range(m):
            Z[j, i] = 0
    for j in range(k):
        i = 0
        row = Z[j, k:]
        while i + 4 <= r:
            a, b, c, d = P[j, k + i], P[j, k + i + 1], P[j, k + i + 2], P[j, k + i + 3]
            q = k + i
            subtract_four(row, a, Z[q, k:], b, Z[q + 1, k:], c, Z[q + 2, k:], d, Z[q + 3, k:])
            i += 4
        while i < r:
            subtract(row, P[j, k + i], Z[k + i, k:])
            i += 1
    for j in range(k - 1, -1, -1):
        for i in range(j + 1, k):
            subtract(Z[j, k:], P[j, i], Z[i, k:])
        for i in range(k - 1, j, -1):
            total = Z.dtype.type(0)
            for q in range(j + 1, k):
                total += P[j, q] * (Z[i, q] if q >= i else Z[q, i])
            for q in range(k, m):
                total += P[j, q] * Z[i, q]
            Z[j, i] = -total
        total = 1 / P[j, j]
        for q in range(j + 1, m):
            total -= P[j, q] * Z[j, q]
        Z[j, j] = total
    for j in range(k):
        for i in range(j + 1, m):
            Z[i, j] = Z[j, i]


def dot(data, X, rows, columns):
    """``A X`` (n, m) of the entries ``A[rows, columns]``, i >= j, of a symmetric matrix."""
    n, m = X.shape
    Y = np.zeros((n, m), X.dtype)
    for e in range(data.size):
        i, j = rows[e], columns[e]
        for c in range(m):
            Y[i, c] += data[e] * X[j, c]
        if i != j:
            for c in range(m):
                Y[j, c] += data[e] * X[i, c]
    return Y


def outer(left, right, rows, columns):
    """The pullback onto the entries of the matrix cotangent ``left right'``."""
    out = np.empty(rows.size, left.dtype)
    for e in range(rows.size):
        i, j = rows[e], columns[e]
        total = left.dtype.type(0)
        for c in range(left.shape[1]):
            total += left[i, c] * right[j, c]
            if i != j:
                total += left[j, c] * right[i, c]
        out[e] = total
    return out
