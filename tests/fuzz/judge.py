"""Who is right where two results differ.

Where plain PyTensor and autotune differ by more than `CLOSE` rounding errors, the value in long double
decides. The error that is allowed is ten times plain's, what the condition of the matrices explains, and
thirty times what rounding-size changes of the inputs do to plain. A NaN is allowed where some of these
changes make plain raise or give one.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

CLOSE, TIMES_PLAIN, TIMES_CONDITION, TIMES_NOISE = 100, 10, 50, 30
TIMES_PURE_NOISE = 1e6  # where nothing but rounding is left, as in determinants of singular matrices
MOVES = 8  # of the inputs by a rounding error
FAR = 1e-2  # an error beside the value, of which there is no doubt
BEYOND_JUDGING = 1e-2  # condition times eps
ITERATIVE = 1e-10  # what CG leaves at the tolerance that the policies of the fuzzer ask for


@dataclass
class Fault:
    kind: str
    text: str


@dataclass
class Noise:
    """What rounding-size changes of the inputs do to a result: how far it moves, and whether it is lost."""

    size: float = 0.0
    lost: bool = False


class Evidence:
    """What decides, computed when first needed. The functions give per output a truth, for all the condition
    number, per output the noise. ``switched``: positions of outputs in which a NaN may be dropped."""

    def __init__(self, truth, condition, noise, eps, iterative=False, mixed=False, switched=frozenset()):
        self._truth, self._condition, self._noise = truth, condition, noise
        self.eps, self.iterative, self.mixed, self.switched = eps, iterative, mixed, switched

    @cached_property
    def truth(self):
        return self._truth()

    @cached_property
    def condition(self):
        return self._condition()

    @cached_property
    def noise(self):
        return self._noise()

    @property
    def beyond_judging(self):
        return not self.condition * self.eps <= BEYOND_JUDGING


def agree(one, other, eps):
    """Whether all results are the same up to rounding, in dtype, shape and what is not finite too."""
    return all(
        a.dtype == b.dtype and a.shape == b.shape and _close(a, b, eps)
        for a, b in zip(one, other, strict=True)
    )


def judge(plain, tuned, evidence, labels, tags):
    """The faults of the results ``tuned``; ``tags`` counts what was let pass, by reason."""
    faults = []
    for i, (p, a, label) in enumerate(zip(plain, tuned, labels, strict=True)):
        if p.dtype != a.dtype and not (evidence.mixed and {p.dtype.kind, a.dtype.kind} == {"f"}):
            faults.append(Fault("dtype", f"{label}: plain {p.dtype}, autotune {a.dtype}"))
        if p.shape != a.shape and _is_nan(p) and _is_nan(a):
            tags["Solve's NaN of another shape"] += (
                1  # that of PyTensor 3.3 where it finds no Cholesky factor
            )
        elif p.shape != a.shape:
            faults.append(Fault("shape", f"{label}: plain {p.shape}, autotune {a.shape}"))
        elif p.size and not _close(a, p, _eps(p, evidence)):
            fault = _judged(p, a, evidence, i, label, tags)
            faults += [fault] if fault else []
    return faults


def wrong(results, evidence):
    """Whether some result is far from its value in long double, beyond what condition and noise explain, or
    a number where that is NaN: PyTensor believes what a solve promises of its matrix, and nothing beside it
    is right then."""
    return any(_is_wrong(p, evidence, i) for i, p in enumerate(results))


def _is_wrong(p, evidence, i):
    right = _true(evidence, i, p)
    if right is None or isinstance(right, str) or p.dtype.kind != "f" or evidence.beyond_judging:
        return False
    if np.any(np.isnan(right) & np.isfinite(p)):
        return True
    error, finite = distance(p, right), np.isfinite(right)
    scale = float(np.abs(right[finite]).max(initial=0.0))
    return FAR * scale < error < np.inf and error > _allowed(0.0, scale, _eps(p, evidence), evidence, i)


def _is_nan(a):
    return a.dtype.kind == "f" and np.isnan(a).all()


def _judged(p, a, evidence, i, label, tags):
    truth = _true(evidence, i, p)
    if isinstance(truth, str):
        tags[f"reference: {truth}"] += 1
        truth = None
    if p.dtype.kind not in "fc":
        wrong = not evidence.beyond_judging and (truth is None or np.array_equal(truth, p))
        return Fault("value", f"{label}: plain {_few(p)}, autotune {_few(a)}") if wrong else None
    right = np.asarray(p, np.longdouble) if truth is None else truth
    eps = _eps(p, evidence)
    finite = np.isfinite(right)
    scale = float(np.abs(right[finite]).max()) if finite.any() else 0.0
    error_p, error_a = distance(p, right), distance(a, right)
    allowed = _allowed(error_p, scale, eps, evidence, i)
    by = "plain" if truth is None else "long double"
    text = (
        f"{label}: error of autotune {error_a:.3g}, of plain {error_p:.3g}, allowed {allowed:.3g}, "
        f"scale {scale:.3g}, condition {evidence.condition:.3g}, right by {by}\n"
        f"   plain    {_few(p)}\n   autotune {_few(a)}\n   right    {_few(right)}"
    )
    if error_a <= allowed:
        reason = "differs within tolerance"
    elif not np.isfinite(error_a) and not np.isfinite(error_p):
        reason = "plain's NaN pattern is not right either"
    elif np.isfinite(right).all() and np.isnan(a).any() and evidence.noise[i].lost:
        reason = "NaN, as plain's is or raises after rounding of the inputs"
    elif i in evidence.switched and np.isnan(p).any() and np.isfinite(a).all():
        reason = "without the 0 * NaN of a branch that is not taken"
    elif evidence.beyond_judging:
        reason = "ill-conditioned beyond judging"
    elif _symmetric_part_right(a, right, allowed):
        reason = "gradient of a symmetric matrix, spread otherwise over the triangles"
    elif not np.isfinite(error_a):
        return Fault("nan", text)
    else:
        coarse = error_a > (1e-2 if eps > 1e-10 else 1e-6) * scale
        return Fault("value" if coarse else "accuracy", text)
    tags[reason] += 1
    return None


def _allowed(error_p, scale, eps, evidence, i):
    relative = TIMES_CONDITION * eps * evidence.condition
    if evidence.iterative:
        relative += ITERATIVE * evidence.condition
    of_plain = TIMES_PLAIN * error_p if np.isfinite(error_p) else 0.0
    noise = evidence.noise[i].size
    times = TIMES_NOISE if noise <= scale else TIMES_PURE_NOISE
    return of_plain + (relative * scale if scale else 0.0) + times * noise + 1e-300


def _true(evidence, i, p):
    """The value in long double (integers as they are), None without one; a text where it does not fit."""
    truth = evidence.truth[i]
    if truth is None or isinstance(truth, str):
        return truth
    truth = np.asarray(truth, np.longdouble if p.dtype.kind == "f" else None)
    return truth if truth.shape == p.shape else f"shape {truth.shape} for {p.shape}"


def distance(x, right):
    """The largest error, inf where other entries are finite or what is not finite differs."""
    good = np.isfinite(right)
    if not np.array_equal(np.isfinite(x), good):
        return np.inf
    if not np.array_equal(x[~good], right[~good], equal_nan=True):
        return np.inf
    return float(np.abs(x - right)[good].max()) if good.any() else 0.0


def _close(a, p, eps):
    if p.dtype.kind not in "fc":
        return np.array_equal(p, a)
    if not p.size:
        return True
    with np.errstate(all="ignore"):
        finite = np.isfinite(p)
        scale = np.abs(p[finite]).max() if finite.any() else 0.0
        return distance(a, p) <= CLOSE * eps * max(scale, 1e-300)


def _eps(p, evidence):
    return max(evidence.eps, np.finfo(p.dtype).eps) if p.dtype.kind in "fc" else evidence.eps


def _symmetric_part_right(a, right, allowed):
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        return False
    a, right = (x + np.swapaxes(x, -1, -2) for x in (a, right))
    return distance(a, right) <= 2 * allowed


def _few(x):
    return np.array2string(
        np.asarray(x).ravel()[:4].astype(x.dtype if x.dtype.kind != "f" else float), precision=10
    )


def natural_noise(run, values, results, eps, r):
    """What becomes of the results of ``run`` when inputs move by a rounding error; it is None where it
    raises. The moves that it survives tell little then: exact zeros, of a matrix that stays singular."""
    noise = [Noise() for _ in results]
    for _ in range(MOVES):
        moved = [
            (v * (1 + eps * r.randint(-1, 2, size=v.shape))).astype(v.dtype) if v.dtype.kind == "f" else v
            for v in values
        ]
        again = run(moved)
        for found, p, q in zip(noise, results, again or [None] * len(results), strict=True):
            if q is None or (q.dtype.kind == "f" and np.isnan(q).any()):
                found.lost = True
            elif p.size and p.shape == q.shape and p.dtype.kind == "f":
                with np.errstate(all="ignore"):
                    d = np.abs(p - q)
                found.size = max(found.size, float(d[np.isfinite(d)].max(initial=0.0)))
    return [Noise(max(found.size, eps), True) if found.lost else found for found in noise]
