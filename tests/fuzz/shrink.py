"""A failing seed made small: outputs dropped, parts replaced by inputs, simpler settings.

Each step is kept if a fault of the same kind remains. What is left is written as a stand-alone script.
"""

import dataclasses
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.replace import clone_replace
from pytensor.graph.traversal import ancestors, explicit_graph_inputs, vars_between

import autotune
from fuzz import checks
from fuzz.choices import Choices
from fuzz.compiling import RAW, Plain, base_mode, call, function, tuned_function
from fuzz.derivatives import combined
from fuzz.judge import Evidence, Fault, judge, natural_noise
from fuzz.reference import evaluate
from fuzz.script import verified_script
from fuzz.settings import Setting
from fuzz.watching import Cycle, Hang, limit, recorded

SECONDS, STEP_SECONDS = 240, 30  # of processor time: in all, and for one step


@dataclass(frozen=True)
class Program:
    """A graph, its numbers, how it is compiled, and the kind of its fault.

    After `tune` the outputs are combined (``combine``) and differentiated with respect to ``wrt``.
    """

    variables: tuple
    values: tuple
    numbers: tuple
    setting: Setting
    policy: dict | None
    kind: str
    eps: float
    condition: float
    combine: tuple = ()
    wrt: tuple = ()
    wrap = None

    @property
    def inner(self):
        return list(self.values)

    @property
    def outputs(self):
        return self.derived(self.values)

    def derived(self, values):
        scalar = combined(values, self.combine) if self.combine else None
        if scalar is None:
            return list(values)
        grads = pt.grad(scalar, list(self.wrt), disconnected_inputs="ignore") if self.wrt else []
        return [*values, scalar, *grads]

    def with_values(self, values, numbers=None):
        """Other outputs; inputs that they do not use are dropped."""
        given = {**dict(zip(self.variables, self.numbers, strict=True)), **(numbers or {})}
        used = set(explicit_graph_inputs(values))
        variables = tuple(v for v in given if v in used)
        return dataclasses.replace(
            self,
            values=tuple(values),
            variables=variables,
            numbers=tuple(given[v] for v in variables),
            wrt=tuple(v for v in self.wrt if v in used),
        )


def shrink_to_script(trial, outcome, folder):
    """The path of a script that shows the first fault, or why there is none."""
    kind, seed = outcome.faults[0].kind, outcome.seed
    with pytensor.config.change_flags(cxx="", traceback__limit=0):
        program = next((p for p in programs(trial, kind) if still_fails(p)), None)
        if program is None:
            return f"none: {kind} is not shown outside the fuzzer (a wrapper after tune, or shared variables)"
        program = shrunk(program)
        return verified_script(program, seed, outcome.faults[0].text, folder)


def programs(trial, kind):
    """The trial as programs, the simplest door first. Shared variables become inputs."""
    case = trial.case
    simple = dataclasses.replace(
        trial.setting,
        door="mode",
        tuned_inside=False,
        tuned_twice=False,
        compiled_plainly=False,
        layout=False,
    )
    tune = dataclasses.replace(simple, door="tune")
    policy = trial.outcome.facts.get("policy", (None, None))[1]
    eps = np.finfo("float32" if "float32" in case.used_dtypes else "float64").eps
    inputs = {i.var: pt.tensor(shape=i.var.type.shape, dtype=i.var.type.dtype) for i in case.g.inputs}

    def program(outs, numbers, setting, **derivatives):
        condition = case.g.condition(case.without_shared(numbers))
        given = dict(zip(inputs.values(), numbers, strict=True))
        rest = setting, policy, kind, eps, condition
        empty = Program((), (), (), *rest, **derivatives)
        return empty.with_values(clone_replace(list(outs), inputs, rebuild_strict=False), given)

    for numbers in trial.numbers():
        yield program(case.outputs, numbers, simple)
        how = {}
        if case.derivatives is not None:
            wrt = tuple(inputs[case.g.inputs[i].var] for i in case.derivatives.wrt)
            how = {"combine": case.derivatives.combine, "wrt": wrt}
        yield program(case.values, numbers, tune, **how)
        if len(case.inner) == len(case.values):
            yield program(case.inner, numbers, tune, **how)


def shrunk(program):
    """The smallest program that the steps reach within the time."""
    end = time.process_time() + SECONDS
    progress = True
    while progress:
        progress = False
        for step in (
            fewer_outputs,
            simpler_settings,
            cut_parts,
            earlier_outputs,
            smaller_sizes,
            rounder_numbers,
        ):
            for candidate in step(program):
                if time.process_time() > end:
                    return program
                if still_fails(candidate):
                    program, progress = candidate, True
                    break
    return program


def fewer_outputs(program):
    """One output alone, or all but one."""
    count = len(program.values)
    keep = [[i] for i in range(count)] if count > 1 else []
    keep += [[j for j in range(count) if j != i] for i in range(count)] if count > 2 else []
    for positions in keep:
        left = dataclasses.replace(
            program, combine=tuple(program.combine[i] for i in positions if program.combine)
        )
        yield left.with_values([program.values[i] for i in positions])
    for i in range(len(program.wrt)):
        yield dataclasses.replace(program, wrt=program.wrt[:i] + program.wrt[i + 1 :])


def simpler_settings(program):
    """The default policy or parts of the policy; full rewrites; the Python linker; the door `mode`."""
    policy = program.policy
    if policy is not None:
        yield dataclasses.replace(program, policy=None)
        for key in policy:
            yield dataclasses.replace(program, policy={k: v for k, v in policy.items() if k != key})
    for changes in ({"rewrites": "full"}, {"linker": "py"}, {"inplace": False}, {"door": "mode"}):
        setting = dataclasses.replace(program.setting, **changes)
        if setting != program.setting and not (changes.get("door") and program.combine):
            yield dataclasses.replace(program, setting=setting)


def cut_parts(program):
    """An inner variable becomes an input that holds its value; those with most behind them first."""
    inner = [
        v
        for v in vars_between(list(program.variables), list(program.values))
        if v.owner is not None and isinstance(v.type, pt.TensorType) and v not in program.values
    ]
    sizes = {v: sum(1 for a in ancestors([v], program.variables)) for v in inner}
    inner.sort(key=lambda v: -sizes[v])
    with np.errstate(all="ignore"):
        try:
            found = call(function(list(program.variables), inner, RAW), program.numbers)
        except Exception:  # the graph cannot be run: nothing is known of its parts
            return
    for v, number in zip(inner, found, strict=True):
        if sizes[v] > 1 or not program.variables:
            fresh = pt.tensor(
                f"c{len(program.variables)}_{number.ndim}", shape=v.type.shape, dtype=v.type.dtype
            )
            values = clone_replace(list(program.values), {v: fresh}, rebuild_strict=False)
            yield program.with_values(values, {fresh: number})


def earlier_outputs(program):
    """What an output is made of in its place."""
    for i, out in enumerate(program.values):
        for v in out.owner.inputs if out.owner is not None else ():
            if isinstance(v.type, pt.TensorType) and v.owner is not None:
                yield program.with_values([*program.values[:i], v, *program.values[i + 1 :]])


def smaller_sizes(program):
    """A length that no type states, smaller everywhere it occurs."""
    pairs = list(zip(program.variables, program.numbers, strict=True))
    shapes = [zip(number.shape, v.type.shape, strict=True) for v, number in pairs]
    for length in sorted(
        {n for shape in shapes for n, known in shape if n > 2 and known is None}, reverse=True
    ):
        for smaller in (2, length // 2):
            numbers = []
            for v, number in pairs:
                axes = zip(number.shape, v.type.shape, strict=True)
                cut = [slice(smaller if n == length and known is None else None) for n, known in axes]
                numbers.append(number[tuple(cut)])
            yield dataclasses.replace(program, numbers=tuple(numbers))


def rounder_numbers(program):
    """Numbers of two decimals."""
    for i, number in enumerate(program.numbers):
        rounded = np.round(number, 2) + 0.0 if number.dtype.kind == "f" else number
        if not np.array_equal(rounded, number, equal_nan=True):
            yield dataclasses.replace(
                program, numbers=(*program.numbers[:i], rounded, *program.numbers[i + 1 :])
            )


def still_fails(program):
    try:
        return any(fault.kind == program.kind for fault in faults_of(program))
    except (Exception, Hang):  # a step that does not even compile plainly is no smaller example
        return False


def faults_of(program):
    """The faults of a program, by the rules of a trial."""
    with recorded("autotune", level=10) as ours, recorded("pytensor"), limit(STEP_SECONDS):
        mode = base_mode(program.setting.linker, program.setting.inplace)
        variables, outputs = list(program.variables), program.outputs
        plain = Plain(variables, outputs, mode, STEP_SECONDS)
        compiled = _Compiled(program, outputs)
        try:
            fn = tuned_function(compiled, program.setting, program.policy)
        except autotune.PolicyError:
            return []
        except Cycle as error:
            return [Fault("cycle", str(error))]
        except Exception as error:
            return [Fault("compile", str(error))] if plain.compiled is not None else []
        faults = checks.messages(ours) + checks.types(compiled, program.setting, fn)
        if program.kind in ("pins", "explain"):
            explained, more = checks.explanation(fn)
            faults += more
            if explained is not None:
                faults += checks.saved_pins(compiled, program.setting, explained, ours, STEP_SECONDS)[1]
        mixed = checks.mixed(compiled, program.setting)
        return faults + faults_of_values(program, plain, fn, outputs, mixed)


class _Compiled:
    """What `tuned_function` and the checks need of a case."""

    def __init__(self, program, outputs):
        self.variables, self.outputs = list(program.variables), outputs
        self.values, self.inner, self.wrap = list(program.values), program.inner, None
        self.derived = program.derived
        self.used_dtypes = {v.type.dtype for v in program.variables}


def faults_of_values(program, plain, fn, outputs, mixed):
    results = plain.run(program.numbers)
    try:
        tuned = call(fn, [np.array(v) for v in program.numbers])
    except Exception as error:
        return [Fault("raises", str(error))] if results is not None else []
    if results is None:
        refused = plain.run(program.numbers, "raw") is None
        return [Fault("not refused", plain.error)] if refused else []

    def noise():
        return natural_noise(plain.run, program.numbers, results, program.eps, Choices("noise").numbers())

    def truth():
        return evaluate(program.variables, outputs, program.numbers)

    evidence = Evidence(truth, lambda: program.condition, noise, program.eps, mixed=mixed)
    return judge(results, tuned, evidence, [""] * len(results), Counter())
