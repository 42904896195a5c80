"""One seed: draw a graph, compile it plainly and with autotune, look at the function, run both."""

import collections
import time
import traceback
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pytensor

import autotune
from fuzz import checks
from fuzz.case import draw_case, rounds
from fuzz.choices import Choices
from fuzz.compiling import Plain, base_mode, tuned_function
from fuzz.generator import Skip
from fuzz.judge import Fault
from fuzz.runs import REWRITE_ERRORS, Runs
from fuzz.settings import draw_hints, draw_setting
from fuzz.watching import Cycle, Hang, limit, recorded

SECONDS = {"py": 60, "vm": 60, "numba": 240}  # of processor time per step


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
        runs = Runs(self)
        for number, values in enumerate(rounds(case)):
            case.set_shared(values)
            runs.look_at(values, number)
            if self.outcome.faults:
                return
        if self.setting.wrong_lengths and not any(i.shared for i in g.inputs):
            runs.send_wrong_lengths()

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
        for known, name in REWRITE_ERRORS.items():
            if any(known in t for t in records.texts):
                self.outcome.tags[f"PyTensor's {name}"] += 1
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

    @cached_property
    def alike(self):
        """Plain PyTensor under the rewrites that the tuned function had, which may be fewer."""
        if self.setting.rewrites == "full":
            return self.plain
        mode = base_mode(self.setting.linker, self.setting.inplace, self.setting.rewrites)
        with limit(self.seconds):
            return Plain(self.case.variables, self.case.outputs, mode, self.seconds)
