"""What follows from the pattern of a symmetric sparse matrix: an elimination tree, the fronts of its factor.
Runs in Python and Numba.

Patterns are in compressed rows, ``indptr`` (n + 1,) and ``indices``, both triangles or the whole.
"""

import numpy as np

WIDEST = 96
"""Columns of a front, at most: wider ones are cut, as blocked algorithms do."""


def elimination_tree(indptr, indices):
    """The parent of each column, -1 of a root (Liu 1986)."""
    n = indptr.size - 1
    parent, ancestor = np.full(n, -1, np.int32), np.full(n, -1, np.int32)
    for i in range(n):
        for p in range(indptr[i], indptr[i + 1]):
            j = indices[p]
            while j != -1 and j < i:
                following = ancestor[j]
                ancestor[j] = i
                if following == -1:
                    parent[j] = i
                j = following
    return parent


def column_counts(indptr, indices, parent, most):
    """Entries of each column of L, diagonal included; of the first -1 where all are more than ``most``."""
    n = parent.size
    counts, mark, total = np.ones(n, np.int64), np.full(n, -1, np.int32), n
    for i in range(n):
        mark[i] = i
        for p in range(indptr[i], indptr[i + 1]):
            j = indices[p]
            while j < i and mark[j] != i:
                mark[j] = i
                counts[j] += 1
                total += 1
                j = parent[j]
        if total > most:
            counts[0] = -1
            return counts
    return counts


def postorder(parent):
    """Columns in an order in which those of a subtree follow one another, its root last."""
    n = parent.size
    child, following = np.full(n, -1, np.int32), np.full(n, -1, np.int32)
    for j in range(n - 1, -1, -1):
        if parent[j] >= 0:
            following[j] = child[parent[j]]
            child[parent[j]] = j
    order, waiting, found = np.empty(n, np.int32), np.empty(n, np.int32), 0
    for root in range(n):
        if parent[root] >= 0:
            continue
        depth = 0
        waiting[0] = root
        while depth >= 0:
            j = waiting[depth]
            c = child[j]
            if c >= 0:
                child[j] = following[c]
                depth += 1
                waiting[depth] = c
            else:
                order[found] = j
                found += 1
                depth -= 1
    return order


def front_columns(parent, counts):
    """The first column of each front, and n: columns of one pattern, and of nearly one where zeros are few
    (Ashcraft & Grimes 1989)."""
    n = parent.size
    found, first, size, zeros = 0, np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n, np.int64)
    start = 0
    while start < n:
        stop = start + 1
        while stop < n and parent[stop - 1] == stop and counts[stop - 1] == counts[stop] + 1:
            stop += 1
        begin, rows, more = start, counts[start], 0
        while found > 0 and start <= parent[begin - 1] < stop:
            t = found - 1
            width = begin - first[t]
            padded = more + zeros[t] + width * (rows - (size[t] - width))
            if not are_few(padded, stop - first[t], rows + width):
                break
            begin, rows, more, found = first[t], rows + width, padded, t
        first[found], size[found], zeros[found] = begin, rows, more
        found += 1
        start = stop
    return cut(first[:found], n)


def are_few(zeros, width, rows):
    share = zeros / (width * (rows - width / 2))
    return width <= 4 or (width <= 16 and share < 0.4) or (width <= 48 and share < 0.1) or share < 0.05


def cut(first, n):
    """The same with fronts of so few columns that a block of them stays in the cache."""
    out, found = np.empty(n + 1, np.int32), 0
    for f in range(first.size):
        stop = first[f + 1] if f + 1 < first.size else n
        width = stop - first[f]
        pieces = (width + WIDEST - 1) // WIDEST
        for piece in range(pieces):
            out[found] = first[f] + piece * width // pieces
            found += 1
    out[found] = n
    return out[: found + 1]


def front_rows(indptr, indices, first):
    """``(rows_at, rows, parent, above)`` of fronts, see `core_sparse.opened`."""
    n, fronts = indptr.size - 1, first.size - 1
    front_of = np.empty(n, np.int32)
    for f in range(fronts):
        for j in range(first[f], first[f + 1]):
            front_of[j] = f
    child, following = np.full(fronts, -1, np.int32), np.full(fronts, -1, np.int32)
    mark, parent = np.full(n, -1, np.int32), np.full(fronts, -1, np.int32)
    rows_at = np.zeros(fronts + 1, np.int32)
    rows, own = np.empty(4 * n + 16, np.int32), np.empty(n, np.int32)
    for f in range(fronts):
        stop, count = first[f + 1], 0
        for j in range(first[f], stop):
            for p in range(indptr[j], indptr[j + 1]):
                i = indices[p]
                if i >= stop and mark[i] != f:
                    mark[i] = f
                    own[count] = i
                    count += 1
        c = child[f]
        while c >= 0:
            for p in range(rows_at[c], rows_at[c + 1]):
                i = rows[p]
                if i >= stop and mark[i] != f:
                    mark[i] = f
                    own[count] = i
                    count += 1
            c = following[c]
        start = rows_at[f]
        rows_at[f + 1] = start + count
        if start + count > rows.size:
            longer = np.empty(2 * (start + count), np.int32)
            longer[:start] = rows[:start]
            rows = longer
        rows[start : start + count] = np.sort(own[:count])
        if count > 0:
            p = front_of[rows[start]]
            parent[f] = p
            following[f] = child[p]
            child[p] = f
    rows = rows[: rows_at[fronts]].copy()
    return rows_at, rows, parent, places_above(first, rows_at, rows, parent)


def places_above(first, rows_at, rows, parent):
    above = np.empty(rows.size, np.int32)
    for f in range(parent.size):
        p = parent[f]
        if p < 0:
            continue
        width, q = first[p + 1] - first[p], rows_at[p]
        for e in range(rows_at[f], rows_at[f + 1]):
            if rows[e] < first[p + 1]:
                above[e] = rows[e] - first[p]
            else:
                while rows[q] < rows[e]:
                    q += 1
                above[e] = width + q - rows_at[p]
    return above


def places_of_entries(order, first, rows_at, rows, i, j):
    """``(entries_at, entry, place)`` of the entries (i, j) of the matrix."""
    fronts, count = first.size - 1, i.size
    front, at = np.empty(count, np.int32), np.empty(count, np.int32)
    entries_at = np.zeros(fronts + 1, np.int32)
    for e in range(count):
        column, row = min(order[i[e]], order[j[e]]), max(order[i[e]], order[j[e]])
        f = np.searchsorted(first, column, side="right") - 1
        width, start, stop = first[f + 1] - first[f], rows_at[f], rows_at[f + 1]
        if row < first[f + 1]:
            place = row - first[f]
        else:
            place = width + np.searchsorted(rows[start:stop], row)
        front[e] = f
        at[e] = (column - first[f]) * (width + stop - start) + place
        entries_at[f + 1] += 1
    for f in range(fronts):
        entries_at[f + 1] += entries_at[f]
    entry, place, filled = np.empty(count, np.int32), np.empty(count, np.int32), entries_at[:-1].copy()
    for e in range(count):
        q = filled[front[e]]
        entry[q], place[q] = e, at[e]
        filled[front[e]] += 1
    return entries_at, entry, place
