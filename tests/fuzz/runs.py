"""What a compiled function of a trial gives, beside plain PyTensor: for values, and for wrong lengths."""

import collections

import numpy as np
from pytensor.tensor.blas import Gemm

from fuzz import checks
from fuzz.case import misfit
from fuzz.choices import Choices
from fuzz.compiling import call
from fuzz.judge import TIMES_NOISE, Evidence, Fault, Noise, agree, judge, natural_noise, wrong
from fuzz.reference import evaluate
from fuzz.watching import Hang, limit

# PyTensor's Gemm names lengths by scalars of C, which its inference for OpFromGraphs then takes for tensors.
SHAPE_OF_GEMM = "'ScalarType' object has no attribute 'broadcastable'"
# Of rewrites, with autotune or without: its inference takes a batch of identities for one.
REWRITE_ERRORS = {
    SHAPE_OF_GEMM: "shape of a Gemm",
    "rows, cols = node.outputs[0].type.shape": "batch of identities",
}
# What PyTensor itself cannot do, whichever graph it is given.
LIMITATIONS = (
    "more than 32 operands",
    "read-only",
    "vectorize with zero size not implemented",
    SHAPE_OF_GEMM,
)
NUMERICAL = (
    "LinAlgError"  # of numbers, not of lengths: a factorisation refuses a singular matrix, another does not
)


class Runs:
    """The function of a trial, run and judged."""

    def __init__(self, trial):
        self.trial = trial
        self.case, self.setting, self.seconds = trial.case, trial.setting, trial.seconds
        self.fn, self.pinned, self.plain, self.chosen = trial.fn, trial.pinned, trial.plain, trial.chosen
        self.outcome, self.fault, self.c = trial.outcome, trial.fault, trial.c

    def look_at(self, all_values, number):
        """Run plain and tuned on the same values and judge what comes out."""
        values = self.case.without_shared(all_values)
        if self.setting.layout:
            values = [relaid(v, self.c.integer(0, 5)) for v in values]
        before = [np.array(v) for v in values]
        self.trial.sent.append([np.array(v) for v in all_values])
        with limit(self.seconds):
            raw = self.plain.run(before, "raw")
        tuned = self.call_tuned(values, before, number, raw)
        if tuned is None:
            return
        eps = np.finfo("float32" if "float32" in self.case.used_dtypes else "float64").eps
        labels = [f"values {number}, output {i} ({o.type})" for i, o in enumerate(self.case.outputs)]
        evidence = self.evidence(all_values, before, raw, eps)
        if raw is None or not self.right_beside_raw(raw, tuned, evidence, labels):
            with limit(self.seconds):
                plain = self.plain.run(before) or raw
            if plain is None:
                self.outcome.status = "plain raises when run"
                return
            evidence = self.evidence(all_values, before, plain, eps)
            faults = judge(plain, tuned, evidence, labels, self.outcome.tags)
            if faults and not self.is_of_plain(plain, before, tuned, evidence):
                self.outcome.faults += faults
        if self.pinned is not None:
            self.compare_pinned(before, tuned, labels, evidence)

    def is_of_plain(self, plain, before, tuned, evidence):
        """Whether PyTensor's own rewrites are at fault: what is built of a wrong matrix is not judged."""
        if wrong(plain, evidence):
            self.outcome.tags["plain PyTensor is wrong"] += 1
            return True
        return self.is_of_rewrites(before, tuned, evidence)

    def is_of_rewrites(self, before, tuned, evidence):
        """Whether plain PyTensor under fewer rewrites gives the same: then those it has are at fault."""
        if self.trial.alike is self.plain:
            return False
        with limit(self.seconds):
            results = self.trial.alike.run(before)
        labels = [""] * len(tuned)
        same = results is not None and not judge(results, tuned, evidence, labels, collections.Counter())
        self.outcome.tags["plain PyTensor is wrong under these rewrites"] += same
        return same

    def right_beside_raw(self, raw, tuned, evidence, labels):
        """Whether the unoptimised graph already shows that all is right: plain need not be compiled."""
        if agree(tuned, raw, evidence.eps):
            return True
        quiet = Evidence(
            lambda: evidence.truth,
            lambda: evidence.condition,
            lambda: [Noise()] * len(raw),
            evidence.eps,
            evidence.iterative,
            switched=evidence.switched,
        )
        return not judge(raw, tuned, quiet, labels, self.outcome.tags)

    def call_tuned(self, values, before, number, raw):
        """Results of the tuned function, called twice; None where there is nothing to judge."""
        try:
            with limit(self.seconds):
                first = call(self.fn, values)
                changed = [
                    str(var)
                    for var, b, v in zip(self.case.variables, before, values, strict=True)
                    if not np.array_equal(b, v, equal_nan=v.dtype.kind == "f")
                ]
                again = call(self.fn, before)
        except Hang:
            self.fault("hang", f"values {number}: a run took more than {self.seconds} s of processor time")
            return None
        except Exception as error:
            self.judge_error(error, before, number, raw)
            return None
        if changed:
            self.fault("input changed", f"values {number}: {changed}")
        if not all(map(_same, first, again)):
            self.compare_calls(first, again, before, number)
        return first

    def compare_calls(self, first, again, before, number):
        """Two calls may differ by rounding: the arrays of the second lie otherwise in memory."""
        eps = np.finfo("float32" if "float32" in self.case.used_dtypes else "float64").eps
        tolerance = max(1e-7, 10 * eps * self.case.g.condition(before))
        noise = self.noise(before, self.plain.run(before) or first, eps)
        for i, (a, b, moved) in enumerate(zip(first, again, noise, strict=True)):
            if not _same(a, b, tolerance) and not _within(a, b, TIMES_NOISE * moved.size):
                self.fault(
                    "second call", f"values {number}, output {i}: {a.ravel()[:4]}, then {b.ravel()[:4]}"
                )

    def judge_error(self, error, before, number, raw):
        """An error is a fault where PyTensor raises none, with the rewrites of the tuned function too."""
        known = limitations(error)
        alike = self.trial.alike
        with limit(self.seconds):
            raises_too = known or alike.run(before) is None or self.plain.run(before) is None
        if known:
            self.outcome.status = f"limitation: {known[0]}"
        elif raises_too:
            self.outcome.status = "both raise when run"
        else:
            self.fault("raises", f"values {number}: {type(error).__name__}: {str(error)[:900]}")

    def evidence(self, all_values, before, plain, eps):
        case = self.case

        def truth():
            shared = {i.var: v for i, v in zip(case.g.inputs, all_values, strict=True) if i.shared}
            try:
                with limit(self.seconds):
                    return evaluate(case.variables, case.outputs, before, shared)
            except (Exception, Hang) as error:
                return [f"{type(error).__name__}: {str(error)[:100]}"] * len(case.outputs)

        iterative = any("cg" in name for name in self.chosen)
        return Evidence(
            truth,
            lambda: case.g.condition(before),
            lambda: self.noise(before, plain, eps),
            eps,
            iterative,
            checks.mixed(case, self.setting),
            case.through_switches,
        )

    def noise(self, before, results, eps):
        """What changes of the inputs by rounding errors do to plain PyTensor's results."""
        with limit(self.seconds):
            best = "compiled" if self.plain.compiled is not None else "raw"
            r = Choices("noise", self.case.g.seed).numbers()
            return natural_noise(lambda moved: self.plain.run(moved, best), before, results, eps, r)

    def compare_pinned(self, before, tuned, labels, evidence):
        try:
            with limit(self.seconds):
                again = call(self.pinned, before)
        except (Exception, Hang) as error:
            self.fault("pins", f"the pinned function raises {type(error).__name__}: {str(error)[:300]}")
            return
        faults = judge(tuned, again, evidence, labels, self.outcome.tags)
        self.outcome.faults += [Fault("pins", f"{fault.kind}: {fault.text}") for fault in faults]

    def send_wrong_lengths(self):
        """A length that plain PyTensor refuses, optimised or not, is refused."""
        found = misfit(self.case, self.c)
        if found is None:
            return
        values, what, of_one = found
        self.trial.sent.append(values)
        with limit(self.seconds):
            refused = self.plain.run(values, "raw") is None
        self.outcome.tags["wrong length refused" if refused else "wrong length served"] += 1
        try:
            with limit(self.seconds):
                tuned = call(self.fn, values)
        except Hang:
            self.fault("hang", f"{what}: a run took more than {self.seconds} s of processor time")
        except Exception as error:
            # SciPy divides by a matrix of one entry whatever the length of the right-hand side is
            served = not refused and not of_one and self.plain_result(values) is not None
            if served and not limitations(error):
                self.fault("raises", f"{what}: {type(error).__name__}: {str(error)[:500]}")
        else:
            # PyTensor's Gemm adds a matrix of one entry to any
            ours = (bool(self.chosen) or self.setting.compiled_plainly) and not self._has_gemm()
            if ours and refused and self.plain_result(values) is None and NUMERICAL not in self.plain.error:
                few = [a.ravel()[:3] for a in tuned]
                self.fault("not refused", f"{what}: plain raises {self.plain.error}, autotune gives {few}")

    def _has_gemm(self):
        return any(isinstance(node.op, Gemm) for node in self.fn.maker.fgraph.apply_nodes)

    def plain_result(self, values):
        with limit(self.seconds):
            return self.plain.run(values)


def limitations(error):
    return [text for text in LIMITATIONS if text in str(error)]


def _within(a, b, distance):
    """Whether two results of one shape are no further apart, NaN in the same places."""
    return a.shape == b.shape and a.dtype == b.dtype and np.allclose(a, b, 0, distance, equal_nan=True)


def _same(a, b, tolerance=1e-7):
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind not in "fc":
        return np.array_equal(a, b)
    scale = np.abs(b[np.isfinite(b)]).max(initial=0.0)
    return np.allclose(a, b, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


def relaid(a, how):
    """The same array in another memory layout."""
    if a.ndim == 0 or how > 2:
        return a
    if how == 0:
        return np.asfortranarray(a)
    if how == 1:
        view = np.zeros(tuple(2 * s for s in a.shape), a.dtype)[(slice(None, None, 2),) * a.ndim]
        view[...] = a
        return view
    return np.ascontiguousarray(a[::-1])[::-1]
