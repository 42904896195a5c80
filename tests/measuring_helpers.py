"""What the tests of `effort: measure` share: a compile that measures, and a clock that tells given times."""

import pytensor.tensor as pt
from helpers import compile_with
from pytensor.assumptions import assume

from autotune.evidence import store, trials
from autotune.plan.feature import compiled_plan
from autotune.problem import Problem, Request, dense

N, K = 60, 2
A, b = pt.matrix("A", shape=(N, N)), pt.vector("b", shape=(N,))
P = assume(A, positive_definite=True)
OUTPUTS = [pt.linalg.solve(P, b), pt.linalg.slogdet(P)[1]]
MEASURE = {"effort": "measure", "effort_budget": 0.05}
DENSE = Problem(
    (Request("solve", 1, form="gen"), Request("logdet", form="lu")), term=dense(500), positive_definite=True
)


class Clock:
    """Stands for `fastest_of`: counts, notes what is timed, and gives the times it is told."""

    def __init__(self, monkeypatch, **seconds):
        self.seconds, self.timed = seconds, []
        monkeypatch.setattr(trials, "fastest_of", self)

    def __call__(self, functions, arguments, budget):
        self.timed.append(tuple(functions))
        return {name: self.seconds.get(name, 1.0) for name in functions}


def plan(fn):
    return compiled_plan(fn.maker.fgraph)


def compiled(policy=MEASURE, outputs=OUTPUTS, inputs=(A, b)):
    return compile_with(list(inputs), outputs, policy)


def stored_files():
    return sorted(store.measured_dir().glob("*/*.json"))
