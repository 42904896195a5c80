"""Expressions that are still to be differentiated, with the algorithm of every matrix decided.

What PyMC does to a model before it differentiates, done to any variables: simplify, then let request Ops take
the place of accepted problems. The variables that are given, and what they are made of, stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytensor.tensor as pt
from pytensor.compile.mode import optdb
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.op import RNGConsumerOp

from autotune.algebra.host import mode_of_compile, set_mode_of_compile
from autotune.choose import strategy
from autotune.plan.feature import plan_of
from autotune.plan.session import enabled_policies
from autotune.policy.in_force import policy_in_force
from autotune.problem import Decision
from autotune.read import has_roots
from autotune.rewrite.build import defer, substitute
from autotune.rewrite.dispatch import will_look
from autotune.rewrite.early import cast_terms, read_diagonals_back
from autotune.rewrite.passes import GuardedPass, ProtectStructure, linker_kind, tune_graph
from autotune.rewrite.steps import decide_steps
from autotune.strategies import STRATEGIES

# Rewrites that wait until differentiation is over: one forgets what the user says of a variable, one what is
# said of its gradient, the others write determinants as products, which can be differentiated only once.
AFTER_AUTODIFF = (
    "local_drain_specify_assumptions",
    "local_view_op",
    "det_of_blockdiag",
    "det_of_kronecker",
    "det_of_triangular",
)

STRUCTURED = frozenset(one.name for one in STRATEGIES if one.structured)
# Predicted times of dense algorithms on small matrices, in those that pay in a Scan.
MUCH = 2.0


class DecideBeforeAutodiff(GuardedPass):
    """Moment 2 where differentiation is still to come: accepted problems become request Ops."""

    def __init__(self, policy=None, examples=None):
        self.policy = policy
        self.examples = examples

    def attempt(self, fgraph):
        if plan_of(fgraph) is None:
            decide_steps(fgraph, self._decide_inside)
        if has_roots(fgraph):
            read_diagonals_back(fgraph)
        self._decide(fgraph)

    def _decide_inside(self, steps, fgraph):
        """Of the graph of a Scan's steps: what has no structure pays for a request Op in each of them."""
        if (mode := mode_of_compile(fgraph)) is not None:
            set_mode_of_compile(steps, mode)
        simplify(steps)
        read_diagonals_back(steps)
        self._decide(steps, only_structured=True)

    def _decide(self, fgraph, *, only_structured=False):
        def commit(reading, decision):
            if reading.carried is not None:
                return None  # it was decided before
            if decision.problem.asks("factor"):
                return None  # it has no request Op: PyTensor differentiates it, the final compile decides
            if only_structured and not _pays_in_steps(decision):
                return None
            wait = decision.undecided and (gains_by_waiting(decision.problem) or self._will_look(decision))
            return defer(reading, decision) if wait or decision.chosen != "keep" else None

        known = {"examples": self.examples, "linker": linker_kind(fgraph)}
        tune_graph(fgraph, self.policy, commit, differentiated=True, **known)

    def _will_look(self, decision) -> bool:
        return will_look(decision, policy_in_force(*enabled_policies, self.policy))


def gains_by_waiting(problem) -> bool:
    """Whether request Ops pay by themselves: their pullback is cheaper than that of Cholesky idioms."""
    return any(r.form == "cholesky" for r in problem.requests) and not problem.asks("factor")


def _pays_in_steps(decision: Decision) -> bool:
    """Whether structure makes a matrix much cheaper: in every step thin arrays are handled beside it, and
    more Ops run, than the prices of kernels tell."""
    if not all(strategy(name).structured for name in decision.assignment):
        return False
    seconds = {c.name: c.seconds for c in decision.candidates if c.seconds is not None}
    dense = [price for name, price in seconds.items() if name not in STRUCTURED]
    own = seconds.get(decision.chosen)
    return own is None or not dense or MUCH * own <= min(dense)


def decided(
    wanted: list[Any], policy: Any, examples: Any, *, given: Iterable[Variable] = (), mode: Any = None
) -> list[Any]:
    """The same expressions with request Ops.

    ``given``: variables that stay, beside inputs and random variables, so that it can be differentiated by
    them. ``mode``: the one of the compile around, None where there is none.
    """
    stand_ins = {var: _stand_in(var) for var in (*given, *random_variables(wanted))}
    fgraph = FunctionGraph(outputs=substitute(wanted, stand_ins), clone=True, copy_inputs=False)
    if mode is not None:
        set_mode_of_compile(fgraph, mode)
    names = [(var, var.name) for var in fgraph.inputs]
    roots = [_inputs_of(out) for out in fgraph.outputs]
    simplify(fgraph)
    DecideBeforeAutodiff(policy, examples).rewrite(fgraph)
    cast_terms(fgraph)
    pairs = list(zip(fgraph.outputs, roots, strict=True))
    connected = {pair: _connected(*pair) for pair in pairs}
    outs = [connected[pair] for pair in pairs]
    for var, name in names:  # what is simplified to an input would give it its own
        var.name = name
    return substitute(outs, {new: old for old, new in stand_ins.items()})


def simplify(fgraph: FunctionGraph) -> None:
    """The graph as it is read before autodiff."""
    ProtectStructure().rewrite(fgraph)
    canonicalize = optdb["canonicalize"].query("+canonicalize", *(f"-{name}" for name in AFTER_AUTODIFF))
    canonicalize.rewrite(fgraph)


def _inputs_of(out: Variable) -> tuple[Any, ...]:
    found = dict.fromkeys(var for var in ancestors([out]) if var.owner is None)
    return tuple(var for var in found if not isinstance(var, Constant) and hasattr(var.type, "broadcastable"))


def _connected(out: Any, inputs: tuple[Any, ...]) -> Any:
    """``out``, a function of all of ``inputs`` still where PyTensor has simplified some of them away.

    Else a gradient by one would be an error, and a batch of one no batch. A compile drops what is added.
    """
    there = set(ancestors([out]))
    for var in inputs:
        if var not in there:
            out = pt.second(var.sum(), out)
    return out


def random_variables(outputs: list[Variable]) -> list[Variable]:
    """Those that ``outputs`` use directly. PyMC knows its own by identity."""
    found: dict[Variable, None] = {}
    walked: set[Variable] = set()
    queue = list(outputs)
    while queue:
        var = queue.pop()
        if var in walked:
            continue
        walked.add(var)
        if var.owner is not None and isinstance(var.owner.op, RNGConsumerOp):
            found[var] = None
        elif var.owner is not None:
            queue += var.owner.inputs
    return list(found)


def _stand_in(var):
    """An input in the place of a variable while the graph is rewritten."""
    stand_in = var.type()
    stand_in.name = var.name
    return stand_in
