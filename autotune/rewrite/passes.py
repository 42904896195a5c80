"""The pass: read, decide, commit once; before autodiff with request Ops, finally with algorithms.

What pins and timings need is imported where there are some.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pytensor.compile.mode import Mode
from pytensor.graph.features import PreserveVariableAttributes
from pytensor.graph.rewriting.basic import GraphRewriter, copy_stack_trace, get_active_mode
from pytensor.graph.rewriting.db import RewriteDatabaseQuery

import cost_models
from autotune.algebra import marks
from autotune.algebra.host import features_of, is_branch
from autotune.algebra.requests import RequestOp
from autotune.choose import decide
from autotune.evidence.examples import joined
from autotune.plan import Plan
from autotune.plan.feature import PlanFeature, enclosing, feature_of, plan_of
from autotune.plan.session import enabled_examples, enabled_policies, is_switched_off, publish
from autotune.policy import PolicyError
from autotune.policy.in_force import policy_in_force
from autotune.problem import Decision, Problem
from autotune.read import has_roots, read
from autotune.read.eigenbases import with_covariances
from autotune.read.equal import equal_matrices
from autotune.read.facts import Declared, Facts
from autotune.read.naming import TermNames
from autotune.read.scan import is_root
from autotune.read.sizes import Sizes, lasting_hints
from autotune.read.views import strip_view
from autotune.rewrite.branches import branches, join_branches
from autotune.rewrite.build import answering, check_order, lower, requesting, wire
from autotune.rewrite.carried import as_served, carried_decision, told
from autotune.rewrite.describe import probed, problem_of, told_apart
from autotune.rewrite.determinants import split_determinants
from autotune.rewrite.dispatch import dispatched
from autotune.rewrite.early import (
    solve_as_given,
    solve_few_columns,
    sum_diagonals_of_products,
)
from autotune.rewrite.guards import guard_composites, guard_structure, release_structure
from autotune.rewrite.products import form_gram_products, lift_transposes, thin_products
from autotune.rewrite.steps import tell_steps
from autotune.strategies.base import OWN_OPS

if TYPE_CHECKING:
    from autotune.evidence.stand_ins import Modes
    from autotune.policy import Policy

# After PyTensor drains assumptions (0.8) and before canonicalize (1).
PROTECT_POSITION = 0.9
# After canonicalize (1) and before stabilize (1.5) lowers solves and determinants.
DECIDE_POSITION = 1.4
# After PyTensor has moved out of Scans what it can (1.62), and before what is outside is fused.
STEPS_POSITION = 1.64
# For what is timed: nothing that is met beside its request Ops is timed in turn.
ONLY_LOWER = {"effort": "estimate", "runtime_dispatch": False}

logger = logging.getLogger("autotune")


class GuardedPass(GraphRewriter):
    """A pass that never harms: any error inside, but for one in the policy, leaves the graph as it was."""

    leaves = "the graph as PyTensor compiles it"

    def add_requirements(self, fgraph):
        for feature in (PreserveVariableAttributes, TermNames, Declared):
            if not any(isinstance(f, feature) for f in features_of(fgraph)):
                fgraph.attach_feature(feature())

    def apply(self, fgraph):
        plan = plan_of(fgraph)
        if plan is None and is_switched_off():
            fgraph.attach_feature(PlanFeature(Plan(), final=True))
        if is_switched_off() or (plan is not None and plan.failure):
            return
        try:
            self.attempt(fgraph)
        except PolicyError:
            raise
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
            logger.warning("autotune left %s: %s. Please report this.", self.leaves, failure)
            logger.debug("autotune traceback", exc_info=True)
            self.give_up(fgraph, plan, failure)

    def give_up(self, fgraph, plan, failure):
        """Nothing more is tried on this graph."""
        if plan is None:
            fgraph.attach_feature(PlanFeature(Plan(failure=failure)))

    def attempt(self, fgraph):
        raise AttributeError(f"{type(self).__name__} defines no attempt")


class ProtectStructure(GuardedPass):
    """Moment 1, before canonicalize: put structure that it would destroy out of its reach."""

    def __init__(self):
        marks.register()  # of a compile that has begun PyTensor would keep the first

    def attempt(self, fgraph):
        if has_roots(fgraph):
            solve_as_given(fgraph)
            split_determinants(fgraph)
            sum_diagonals_of_products(fgraph)
            solve_few_columns(fgraph)
            guard_structure(fgraph)
            guard_composites(fgraph)


class ProtectBeforeAutodiff(ProtectStructure):
    """Moment 1 in PyMC: before it differentiates, and while it makes a log-density, when the matrices of its
    random variables are not solved with yet.

    A query that PyMC makes when it is imported holds it for ever: it does nothing once all is disabled.
    """

    def add_requirements(self, fgraph):
        if has_roots(fgraph):
            super().add_requirements(fgraph)

    def attempt(self, fgraph):
        if enabled_policies and has_roots(fgraph):
            super().attempt(fgraph)
        elif enabled_policies:
            guard_structure(fgraph)


class TellSteps(GuardedPass):
    """Before the graphs inside a function are compiled: Scans whose matrices can be read in their steps."""

    leaves = "the Scans as PyTensor compiles them"

    def attempt(self, fgraph):
        tell_steps(fgraph)

    def give_up(self, fgraph, plan, failure):
        """Steps are read as they stand."""


class AutotunePass(GuardedPass):
    """Moments 2 and 3 in the final compile: read, decide, and write the chosen algorithms.

    Request Ops from before autodiff are lowered by the decision that they carry. ``only_lower``
    does no more than that. ``examples`` of the function's inputs: `autotune.evidence.examples.Examples` or
    None.
    """

    def __init__(self, policy=None, examples=None, *, only_lower: bool = False):
        self.policy = policy
        self.examples = examples
        self.only_lower = only_lower

    def attempt(self, fgraph):
        changed, linker = False, linker_kind(fgraph)
        try:
            commit = lower_requests if self.only_lower else lower_all
            known = {"examples": self.examples, "linker": linker}
            dispatch = not self.only_lower
            changed = tune_graph(
                fgraph, self.policy, commit, differentiated=False, dispatch=dispatch, **known
            )
            if changed:
                lift_transposes(fgraph)
            if changed and linker in OWN_OPS:
                form_gram_products(fgraph)
        finally:
            release_structure(fgraph, in_expressions=changed and linker in OWN_OPS)
        join_branches(fgraph)


def linker_kind(fgraph) -> str | None:
    """ "numba", "perform" for linkers that call an Op's Python code, None for all others."""
    from pytensor.link.basic import JITLinker, PerformLinker
    from pytensor.link.c.basic import OpWiseCLinker
    from pytensor.link.numba import NumbaLinker
    from pytensor.link.vm import VMLinker

    linker = get_active_mode(fgraph).linker
    if isinstance(linker, JITLinker):
        return "numba" if isinstance(linker, NumbaLinker) else None
    return "perform" if isinstance(linker, PerformLinker | VMLinker | OpWiseCLinker) else None


def lower_all(reading, decision):
    if reading.deferred or decision.chosen != "keep":
        return lower(reading, decision, decision.assignment)
    return None


def lower_requests(reading, decision):
    return lower_all(reading, decision) if reading.deferred else None


def tune_graph(fgraph, policy, commit, *, examples, differentiated, linker, dispatch=False) -> bool:
    """Read the problems of ``fgraph``, decide each, and replace all that ``commit`` answers in one go.

    ``commit(reading, decision)`` gives the answers to the requests of a reading, None to leave it
    as written. ``dispatch``: where sizes are unknown, run-time sizes may choose. Returns whether anything was
    replaced.
    """
    outer = None if differentiated else enclosing(fgraph)
    if plan_of(fgraph) is not None or is_branch(fgraph):
        return False
    plan, replacements = Plan(), []
    if has_roots(fgraph):
        in_force = policy_in_force(*enabled_policies, policy)
        known = {"examples": joined(*enabled_examples, examples), "linker": linker}
        pairs = with_covariances(fgraph, Facts(fgraph).symmetric)
        fgraph.replace_all_validate(pairs, reason="autotune_eigenbases")
        merge_matrices(fgraph, in_force, differentiated=differentiated, **known)
        decided = decisions_on(fgraph, in_force, differentiated=differentiated, **known)
        if not differentiated:
            decided = dispatched(fgraph, decided, in_force, allowed=dispatch and outer is None)
        square = [m for reading, *_ in decided if (m := reading.square_matrix) is not None]
        hints = lasting_hints(fgraph, in_force.sizes, known["examples"], square)
        plan = Plan(tuple(dict.fromkeys(told(decided))), hints=hints)
        if not differentiated and outer is None and not holds_problems(fgraph):
            _look_for_pins(in_force, policy, plan)
        replacements = _replacements(fgraph, decided, commit)
        if replacements:
            replacements += thin_products(fgraph, decided)
    if replacements:
        # Downstream first: what is built there may use what is replaced upstream, and must follow it.
        position = {node: i for i, node in enumerate(fgraph.toposort())}
        replacements.sort(key=lambda pair: -position[pair[0].owner])
        fgraph.replace_all_validate(replacements, reason="autotune")
    fgraph.attach_feature(PlanFeature(plan, final=not differentiated))
    if plan.decisions and not differentiated:
        publish(plan)
        feature = None if outer is None else feature_of(outer)
        if feature is not None:
            feature.inner.append(plan)
    return bool(replacements)


def merge_matrices(fgraph, policy: Policy, **known) -> None:
    """One variable for matrices that are equal: one problem, which a single factorisation may serve.

    PyTensor has made one of those that the same Ops compute from the same variables. Those that pins name
    apart, as they were when the pins were saved, stay apart.
    """
    matrices = dict.fromkeys(
        strip_view(node.inputs[0])[0]
        for node in fgraph.toposort()
        if is_root(node) and not isinstance(node.op, RequestOp)
    )
    pairs = equal_matrices(matrices, Facts(fgraph).symmetric) if len(matrices) > 1 else []
    if pairs and policy.pins:
        from autotune.plan.pins import is_pinned

        named = {
            r.matrix for r, problem in problems_on(fgraph, policy, **known) if is_pinned(problem, policy)
        }
        pairs = [pair for pair in pairs if not named.issuperset(pair)]
    fgraph.replace_all_validate(pairs, reason="autotune_equal")


def decisions_on(
    fgraph, policy: Policy, *, differentiated, linker, examples=None
) -> list[tuple[Any, Decision, Decision]]:
    """Each reading with its decision, and with the decision as the plan shows it.

    The two differ for request Ops: their requests in the joint graph are served by a decision that was taken,
    and is shown, for what they were before autodiff.
    """
    known = {"differentiated": differentiated, "linker": linker, "examples": examples}
    found = probed(problems_on(fgraph, policy, **known), policy, examples)
    problems = [problem for reading, problem in found if reading.carried is None]
    fresh = iter(_decisions(problems, policy, get_active_mode(fgraph)))
    decided = []
    for reading, problem in found:
        if reading.carried is None:
            decision = next(fresh)
            decided.append((reading, decision, decision))
        else:
            decision = carried_decision(reading, problem)
            decided.append((reading, decision, reading.whole or decision))
    return as_served(decided)


def problems_on(fgraph, policy: Policy, *, examples=None, **known) -> list[tuple[Any, Problem]]:
    """Each reading with its problem."""
    sizes = Sizes(fgraph, policy.sizes, examples)
    found = [
        (reading, problem_of(reading, sizes, **known)) for reading in read(fgraph, policy.compile_budget)
    ]
    return told_apart(fgraph, [f for f in found if f[0].deferred or f[1].structure != ("diagonal",)])


def _decisions(problems, policy: Policy, mode) -> list[Decision]:
    """One for each problem: by pins, else by prices, and where the policy's effort says so by times."""
    decisions = [decide(problem, policy, cost_models.find_profile) for problem in problems]
    if policy.effort == "estimate" or not any(decision.profile for decision in decisions):
        return decisions
    from autotune.evidence.measured import measured

    return measured(decisions, policy, cost_models.find_profile(), modes_to_time(mode))


def modes_to_time(mode: Mode) -> Modes:
    """The linker and rewrites of ``mode`` for candidates that are timed."""
    from autotune.evidence.stand_ins import Modes

    plain = without_passes(mode)
    lowering = plain.register((AutotunePass(ONLY_LOWER, only_lower=True), DECIDE_POSITION))
    return Modes(plain, lowering, answering, requesting)


def without_passes(mode: Mode) -> Mode:
    """The linker and rewrites of ``mode`` without those registered on it, which may be this one."""
    query = mode.provided_optimizer
    if isinstance(query, RewriteDatabaseQuery):
        kept = (query.include, query.require, query.exclude, query.subquery, query.position_cutoff)
        query = RewriteDatabaseQuery(*kept)
    return Mode(linker=mode.linker.clone(), optimizer=query)


def _replacements(fgraph, decided, commit) -> list[tuple]:
    """What ``commit`` answers, as pairs of an old and a new variable."""
    looking = [(reading, decision) for reading, decision, _ in decided if decision.crossover is not None]
    alone = [(reading, decision) for reading, decision, _ in decided if decision.crossover is None]
    committed = [(reading, commit(reading, decision)) for reading, decision in alone]
    answered = [(reading, found) for reading, found in committed if found is not None]
    answers = {placeholder: out for _, found in answered for placeholder, out in found.items()}
    replacements = wire([reading for reading, _ in answered], answers, fgraph.variables)
    for reading, decision in looking:
        replacements += branches(reading, decision, fgraph.variables)
    check_order(fgraph.outputs, replacements)
    for old, new in replacements:
        copy_stack_trace(old, new)
    return replacements


def _look_for_pins(in_force: Policy, own: Any, plan: Plan) -> None:
    """Say which pins find nothing. Those of ``own``, the policy of this function alone, must all be found."""
    if in_force.pins:
        from autotune.plan.pins import report_missing

        report_missing(in_force, policy_in_force(own, layers=False).pins, plan.decisions)


def holds_problems(fgraph) -> bool:
    """Whether graphs inside (Scan, OpFromGraph, branches) have matrices, and so maybe pins, of their own."""
    inner = (getattr(n.op, "fgraph", None) for n in fgraph.apply_nodes if not isinstance(n.op, RequestOp))
    return any(has_roots(graph) for graph in inner if graph is not None)
