"""The iteration of preconditioned conjugate gradients for several right-hand sides at once.

Hestenes & Stiefel (1952); Golub & Van Loan (2013), 11.3 and 11.5. Residuals are replaced by true ones as van
der Vorst & Ye (2000) do. Vectors are rows ``(m, n)``; those still open come first and share a product with A,
so a finished one leaves cheaply. Scalars are in double precision. Compiled by Numba as it stands.
"""

import math
from collections import namedtuple

import numpy as np

from autotune.ops import kernels
from autotune.ops.core_operator import product_into

# The share of the budget after which convergence is judged, and how much faster it may still become.
JUDGED_AFTER, OPTIMISM = 1 / 3, 2.0
# A row whose recurrence claims more than it has this often cannot reach its tolerance.
MISSES = 3

# Of every row: its place in B; the vectors x, r, p and one to work with; the length of the residual that it
# needs and has; r . P^-1 r; the rounding errors gathered in r, and whether they matter; claims that it
# missed; and whether it is solved.
State = namedtuple("State", "place x r p work target size rho drift late misses solved")


def start(B, target):
    """The `State` of the rows of ``B`` before the first step; ``p`` and ``rho`` are still to be set."""
    m = len(B)
    place, flags = np.arange(m), np.zeros((2, m), np.bool_)
    numbers = np.zeros((4, m))
    for i in range(m):
        numbers[0, i] = math.sqrt(kernels.dot(B[i], B[i]))
    # a target of zero has no logarithm
    return State(
        place,
        np.zeros_like(B),
        B.copy(),
        np.zeros_like(B),
        np.empty_like(B),
        np.maximum(target, 1e-300),
        numbers[0],
        numbers[1],
        numbers[2],
        flags[0],
        numbers[3],
        flags[1],
    )


def precondition(preconditioner, R, Z):
    """In place: the rows of ``Z`` become ``P^-1 r``. ``preconditioner``: ``(scale, U, weights, inverse)``,
    ``P^-1 = D (I - U diag(weights) U') D`` with D = diag(scale), or the parts of an ``inverse``; none if all
    are empty."""
    scale, U, weights, inverse = preconditioner
    if inverse[0].size or inverse[2].size or inverse[3].size:
        product_into(inverse, R, Z, False)
        return
    for i in range(len(R)):
        kernels.copy_to(R[i], Z[i])
        if scale.size:
            kernels.multiply(scale, Z[i])
    if U.size:
        inner = kernels.matmul(Z, U)
        for i in range(len(R)):
            kernels.multiply(weights, inner[i])
        outer = kernels.matmul(inner, U.T)
        for i in range(len(R)):
            kernels.axpby(-1.0, outer[i], 1.0, Z[i])
    if scale.size:
        for i in range(len(R)):
            kernels.multiply(scale, Z[i])


def step(state, Q, norm):
    """``(norm, sound)``: one step along the directions, given ``Q = A P`` for the open rows.

    ``norm``: that of A, from below. Nothing is done, and ``sound`` is False, if A or the preconditioner shows
    itself not to be positive definite, or not finite.
    """
    curvature = np.empty(len(Q))
    for i in range(len(Q)):
        curvature[i] = kernels.dot(state.p[i], Q[i])
        if not (0 < curvature[i] < np.inf and 0 < state.rho[i] < np.inf):
            return norm, False
    for i in range(len(Q)):
        squared = kernels.dot(state.p[i], state.p[i])
        if squared > 0:  # it may underflow
            norm = max(norm, curvature[i] / squared)
        alpha = state.rho[i] / curvature[i]
        kernels.axpby(alpha, state.p[i], 1.0, state.x[i])
        kernels.axpby(-alpha, Q[i], 1.0, state.r[i])
        state.size[i] = math.sqrt(kernels.dot(state.r[i], state.r[i]))
    return norm, True


def replace_residuals(matrix, B, state, Q, norm, eps):
    """True residuals where it matters; rows that are solved are marked, and those that missed are counted.

    It matters where the recurrence claims convergence, and where the rounding errors that it has gathered
    first exceed ``sqrt(eps)`` of it, which costs no convergence (van der Vorst & Ye 2000). If the triangles
    of A differ, the steps are for nothing: truth is read from the one that a factorisation reads. ``Q`` is
    free.
    """
    claims, found = np.zeros(len(Q), np.bool_), np.empty(len(Q), np.int64)
    count = 0
    for i in range(len(Q)):
        rounding = eps * norm * math.sqrt(kernels.dot(state.x[i], state.x[i]))
        state.drift[i] += rounding + eps * state.size[i]
        was_late = state.late[i]
        state.late[i] = state.drift[i] > math.sqrt(eps) * state.size[i]
        claims[i] = state.size[i] <= max(state.target[i], rounding)
        if claims[i] or (state.late[i] and not was_late):
            kernels.copy_to(state.x[i], state.work[count])
            found[count] = i
            count += 1
    if count == 0:
        return
    product_into(matrix, state.work[:count], Q[:count], True)
    for j in range(count):
        i = found[j]
        kernels.copy_to(B[state.place[i]], state.r[i])
        kernels.axpby(-1.0, Q[j], 1.0, state.r[i])
        state.drift[i] = eps * norm * math.sqrt(kernels.dot(state.x[i], state.x[i]))
        state.size[i] = math.sqrt(kernels.dot(state.r[i], state.r[i]))
        if claims[i] and state.size[i] <= state.target[i]:
            state.solved[i] = True
        elif claims[i]:
            # It starts again from the true residual: beta is zero.
            state.misses[i] += 1
            state.rho[i] = np.inf


def leave(state, count, X, solved):
    """How many rows stay open: solved ones go to ``X``, and the last open ones take their places."""
    for i in range(count - 1, -1, -1):
        if not state.solved[i]:
            continue
        kernels.copy_to(state.x[i], X[state.place[i]])
        solved[state.place[i]] = True
        count -= 1
        if i < count:
            move(state, count, i)
    return count


def move(state, origin, i):
    """Row ``origin`` of the state becomes row ``i``."""
    for vectors in (state.x, state.r, state.p):
        kernels.copy_to(vectors[origin], vectors[i])
    for numbers in (state.target, state.size, state.rho, state.drift, state.misses):
        numbers[i] = numbers[origin]
    state.place[i], state.late[i], state.solved[i] = state.place[origin], state.late[origin], False


def turn(preconditioner, state, count):
    """The next directions of the open rows."""
    Z = state.work[:count]
    precondition(preconditioner, state.r[:count], Z)
    for i in range(count):
        rho = kernels.dot(state.r[i], Z[i])
        kernels.axpby(1.0, Z[i], rho / state.rho[i], state.p[i])
        state.rho[i] = rho


def distance(state, count):
    """``log(residual / target)`` of the open row that has furthest to go."""
    furthest = 1.0
    for i in range(count):
        furthest = max(furthest, state.size[i] / state.target[i])
    return math.log(furthest)


def hopeless(distances, budget):
    """Whether the budget will not do, by the convergence so far.

    ``distances``: those of all iterations. From the second half of the iterations a speed is read; CG
    accelerates, so twice that speed is granted.
    """
    done = len(distances)
    if done < 2 or done < JUDGED_AFTER * budget:
        return False
    half = (done + 1) // 2
    reached = distances.min()
    speed = (distances[:half].min() - reached) / (done - half)
    return reached > OPTIMISM * speed * (budget - done)


def iterate(matrix, B, preconditioner, target, budget):
    """``(X, solved, iterations)`` for the rows of ``B``: every solved one has ``|b - A x| <= target``.

    ``matrix`` is what `core_operator.parts_of` gives. Gives up early on a matrix that shows itself
    indefinite, on a tolerance out of reach, and when the budget will not do.
    """
    X, solved = np.zeros_like(B), np.zeros(len(B), np.bool_)
    Q, eps, norm = np.empty_like(B), float(np.finfo(B.dtype).eps), 0.0
    state, count, used, distances = start(B, target), len(B), 0, np.empty(64)
    turn_first(preconditioner, state)
    while used < budget:
        used += 1
        product_into(matrix, state.p[:count], Q[:count], False)
        norm, sound = step(state, Q[:count], norm)
        if not sound:
            break
        replace_residuals(matrix, B, state, Q[:count], norm, eps)
        if used > distances.size:
            distances = np.append(distances, np.empty_like(distances))
        distances[used - 1] = distance(state, count)
        count = leave(state, count, X, solved)
        if count == 0 or state.misses[:count].max() >= MISSES or hopeless(distances[:used], budget):
            break
        turn(preconditioner, state, count)
    for i in range(count):
        kernels.copy_to(state.x[i], X[state.place[i]])
    return X, solved, used


def turn_first(preconditioner, state):
    """The first directions: ``p`` is zero, and `turn` multiplies it by a ratio that has to be finite."""
    state.rho[:] = np.inf
    turn(preconditioner, state, len(state.r))
