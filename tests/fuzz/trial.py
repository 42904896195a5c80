"""One seed: draw a graph, compile it plainly and with autotune, run both, judge."""

import collections
import time
import traceback
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pytensor

import autotune
from fuzz import checks
from fuzz.case import draw_case, misfit, rounds
from fuzz.choices import Choices
from fuzz.compiling import Plain, base_mode, call, tuned_function
from fuzz.generator import Skip
from fuzz.judge import Evidence, Fault, Noise, agree, judge, natural_noise, wrong
from fuzz.reference import evaluate
from fuzz.settings import draw_hints, draw_setting
from fuzz.watching import Cycle, Hang, limit, recorded

SECONDS = {"py": 60, "vm": 60, "numba": 240}  # of processor time per step
# What PyTensor itself cannot do, whichever graph it is given.
LIMITATIONS = ("more than 32 operands", "read-only", "vectorize with zero size not implemented")
# Its Gemm names lengths by scalars of C, which its inference for OpFromGraphs then takes for tensors.
SHAPE_OF_GEMM = "'ScalarType' object has no attribute 'broadcastable'"
NUMERICAL = (
    "LinAlgError"  # of numbers, not of lengths: a factorisation refuses a singular matrix, another does not
)


@dataclass
class Outcome:
    """What came of a seed: its faults, how it ended, what it met."""

    seed: int
    faults: list = field(default_factory=list)
    status: str = "ok"
    tags: collections.Counter = field(default_factory=collections.Counter)
    facts: dict[str, Any] = field(default_factory=dict)

    def as_dict(self):
        faults = [[fault.kind, fault.text] for fault in self.faults]
        return {"seed": self.seed, "status": self.status, "faults": faults, "tags": self.tags, **self.facts}


def run_seed(seed, linker="mix", door="mix", only=None, keep=None):
    """The outcome of one seed; a list ``keep`` receives the trial itself."""
    outcome, started = Outcome(seed), time.perf_counter()
    try:
        # no C compiler for inner graphs, no tracebacks kept with variables: both only take time
        with pytensor.config.change_flags(cxx="", traceback__limit=0):
            trial = Trial(seed, linker, door, only, outcome)
            if keep is not None:
                keep.append(trial)
            trial.run()
    except Skip as skip:
        outcome.status = f"skipped: {skip}"
    except Hang:
        outcome.status = "skipped: the time was over outside autotune"
    except Exception as error:  # of the fuzzer itself: seen in the summary
        outcome.status = f"error in the fuzzer: {type(error).__name__}: {str(error)[:150]}"
        outcome.facts["fuzzer"] = traceback.format_exc()[-1500:]
    outcome.facts["seconds"] = round(time.perf_counter() - started, 2)
    return outcome


class Trial:
    """The steps of one seed, in the order in which they run."""

    def __init__(self, seed, linker, door, only, outcome):
        self.outcome = outcome
        self.setting = draw_setting(Choices("setting", seed), linker, door)
        self.seconds = SECONDS[self.setting.linker]
        with limit(self.seconds):
            self.case = draw_case(seed, only)
        self.c = Choices("checks", seed)
        self.setting.hints = draw_hints(self.c, self.case.g)
        self.fn = self.pinned = self.policy = self.plain = None
        self.chosen, self.sent = [], []
        g, s = self.case.g, self.setting
        outcome.status = self.case.note or "ok"
        outcome.facts.update(log=g.log, linker=s.linker, door=s.door, inplace=s.inplace)
        g.tags.update([f"linker:{s.linker}", f"door:{s.door}", f"rewrites:{s.rewrites}"])
        outcome.tags = g.tags

    def numbers(self):
        """The values that the trial sent, the last first."""
        return self.sent[::-1] or [self.case.g.values(self.case.g.dims, 1)]

    def fault(self, kind, text):
        self.outcome.faults.append(Fault(kind, text))

    def run(self):
        g, case = self.case.g, self.case
        with recorded("autotune", level=10) as ours, recorded("pytensor") as pytensors:
            with limit(self.seconds):
                self.plain = Plain(case.variables, case.outputs, self.plain_mode(), self.seconds)
            if not self.compile(ours, pytensors):
                return
            self.examine(ours)
        for number, values in enumerate(rounds(case)):
            case.set_shared(values)
            self.look_at(values, number)
            if self.outcome.faults:
                return
        if self.setting.wrong_lengths and not any(i.shared for i in g.inputs):
            self.send_wrong_lengths()

    def plain_mode(self):
        return base_mode(self.setting.linker, self.setting.inplace)

    # -- compiling ----------------------------------------------------------------------------------

    def compile(self, ours, pytensors):
        """Compile under the first policy that serves; whether there is a function to look at."""
        examples = self.examples()
        for name, policy in self.attempts():
            ours.clear()
            pytensors.clear()
            self.outcome.facts["policy"] = (name, policy)
            try:
                with limit(self.seconds):
                    self.fn = tuned_function(self.case, self.setting, policy, examples)
            except autotune.PolicyError:
                self.outcome.tags["PolicyError"] += 1
                continue
            except Cycle as error:
                self.fault("cycle", str(error))
            except Hang:
                with limit(self.seconds):
                    hangs_too = self.plain.compiled is None
                if not hangs_too:
                    self.fault(
                        "hang", f"compiling took more than {self.seconds} s of processor time ({name})"
                    )
            except Exception as error:
                with limit(self.seconds):
                    fails_too = self.plain.compiled is None
                if fails_too:
                    self.outcome.status = "both raise when compiled"
                else:
                    text = f"{name}: {type(error).__name__}: {str(error)[:600]}"
                    self.fault("compile", f"{text}\n{traceback.format_exc()[-1800:]}")
            break
        if self.fn is None:
            self.outcome.status = "no policy serves" if self.outcome.status == "ok" else self.outcome.status
            return False
        self.policy = policy
        self.outcome.tags[f"policy:{name}"] += 1
        self.outcome.faults += checks.messages(ours)
        if pytensors.texts:
            self.compare_rewrite_errors(pytensors)
        return True

    def attempts(self):
        """Policies with their names, with and without hints of sizes."""
        for name, policy in self.setting.policies:
            if policy is not None and self.setting.hints:
                yield f"{name}, sizes", {**policy, "sizes": self.setting.hints}
            yield name, policy

    def examples(self):
        if not self.setting.example_inputs:
            return None
        values = self.case.g.values(self.case.g.dims, 1)
        pairs = zip(self.case.g.inputs, values, strict=True)
        return {i.var.name: v for i, v in pairs if i.var.name and not i.shared} or None

    def compare_rewrite_errors(self, records):
        """PyTensor logs the errors of its rewrites and goes on: none may come only with autotune."""
        text = records.texts[0][-900:]
        if any(SHAPE_OF_GEMM in t for t in records.texts):
            self.outcome.tags["PyTensor's shape of a Gemm"] += 1
            return
        records.clear()
        with limit(self.seconds):
            self.plain.compiled  # noqa: B018
        if records.texts:
            self.outcome.tags["PyTensor's rewrites fail, without autotune too"] += 1
        else:
            self.fault("rewrite error", f"only with autotune: {text}")

    # -- the compiled function ----------------------------------------------------------------------

    def examine(self, ours):
        explained, faults = None, []
        if not self.setting.compiled_plainly:
            explained, faults = checks.explanation(self.fn)
        if not any(fault.kind == "internal error" for fault in self.outcome.faults):
            self.outcome.faults += faults
        if explained is not None:
            self.chosen = [d.chosen for d in checks.decisions(explained)]
            self.outcome.facts["chosen"] = self.chosen
            self.outcome.tags.update(f"chosen:{name}" for name in self.chosen)
            self.outcome.tags["acted"] += any(name != "keep" for name in self.chosen)
            branches = any(d.crossover is not None for d in checks.decisions(explained))
            self.outcome.tags["run-time dispatch"] += branches
        self.outcome.faults += checks.types(self.case, self.setting, self.fn)
        self.outcome.faults += checks.square_arrays(self.case, self.setting, self.fn, self.chosen)
        if self.setting.pins and self.chosen and self.setting.door != "tune":
            self.pinned, faults = checks.saved_pins(self.case, self.setting, explained, ours, self.seconds)
            self.outcome.faults += faults
            self.outcome.tags["pins compiled again"] += 1
        if self.setting.pickled and not any(i.shared for i in self.case.g.inputs):
            self.fn, faults = checks.pickled(self.fn, self.alike)
            self.outcome.faults += faults
            self.outcome.tags["pickled"] += 1

    # -- running ------------------------------------------------------------------------------------

    def look_at(self, all_values, number):
        """Run plain and tuned on the same values and judge what comes out."""
        values = self.case.without_shared(all_values)
        if self.setting.layout:
            values = [relaid(v, self.c.integer(0, 5)) for v in values]
        before = [np.array(v) for v in values]
        self.sent.append([np.array(v) for v in all_values])
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

    @cached_property
    def alike(self):
        """Plain PyTensor under the rewrites that the tuned function had, which may be fewer."""
        if self.setting.rewrites == "full":
            return self.plain
        mode = base_mode(self.setting.linker, self.setting.inplace, self.setting.rewrites)
        with limit(self.seconds):
            return Plain(self.case.variables, self.case.outputs, mode, self.seconds)

    def is_of_plain(self, plain, before, tuned, evidence):
        """Whether PyTensor's own rewrites are at fault: what is built of a wrong matrix is not judged."""
        if wrong(plain, evidence):
            self.outcome.tags["plain PyTensor is wrong"] += 1
            return True
        return self.is_of_rewrites(before, tuned, evidence)

    def is_of_rewrites(self, before, tuned, evidence):
        """Whether plain PyTensor under fewer rewrites gives the same: then those it has are at fault."""
        if self.alike is self.plain:
            return False
        with limit(self.seconds):
            results = self.alike.run(before)
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
        # rounding differs between the two: the arrays of the second call may lie otherwise in memory
        condition = 1.0 if all(map(_same, first, again)) else self.case.g.condition(before)
        eps = np.finfo("float32" if "float32" in self.case.used_dtypes else "float64").eps
        for i, (a, b) in enumerate(zip(first, again, strict=True)):
            if not _same(a, b, max(1e-7, 10 * eps * condition)):
                self.fault(
                    "second call", f"values {number}, output {i}: {a.ravel()[:4]}, then {b.ravel()[:4]}"
                )
        return first

    def judge_error(self, error, before, number, raw):
        """An error is a fault where PyTensor raises none, with the rewrites of the tuned function too."""
        known = limitations(error)
        alike = self.alike
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

        def noise():
            with limit(self.seconds):
                best = "compiled" if self.plain.compiled is not None else "raw"
                r = Choices("noise", case.g.seed).numbers()
                return natural_noise(lambda moved: self.plain.run(moved, best), before, plain, eps, r)

        iterative = any("cg" in name for name in self.chosen)
        return Evidence(
            truth, lambda: case.g.condition(before), noise, eps, iterative, checks.mixed(case, self.setting)
        )

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
        values, what = found
        self.sent.append(values)
        with limit(self.seconds):
            refused = self.plain.run(values, "raw") is None
        self.outcome.tags["wrong length refused" if refused else "wrong length served"] += 1
        try:
            with limit(self.seconds):
                tuned = call(self.fn, values)
        except Hang:
            self.fault("hang", f"{what}: a run took more than {self.seconds} s of processor time")
        except Exception as error:
            if not refused and not limitations(error) and self.plain_result(values) is not None:
                self.fault("raises", f"{what}: {type(error).__name__}: {str(error)[:500]}")
        else:
            # without a choice it is PyTensor that refuses less, as its Gemm does of a matrix of one entry
            ours = bool(self.chosen) or self.setting.compiled_plainly
            if ours and refused and self.plain_result(values) is None and NUMERICAL not in self.plain.error:
                few = [a.ravel()[:3] for a in tuned]
                self.fault("not refused", f"{what}: plain raises {self.plain.error}, autotune gives {few}")

    def plain_result(self, values):
        with limit(self.seconds):
            return self.plain.run(values)


def limitations(error):
    return [text for text in LIMITATIONS if text in str(error)]


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
