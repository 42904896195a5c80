"""The pass: read, decide, commit once; before autodiff with request Ops, finally with algorithms."""

from __future__ import annotations

import logging
from typing import Any

from pytensor.graph.features import Feature, PreserveVariableAttributes
from pytensor.graph.rewriting.basic import GraphRewriter, copy_stack_trace, get_active_mode

from autotune.plan import Decision, Plan
from autotune.policy import PolicyError

logger = logging.getLogger("autotune")


class PlanFeature(Feature):
    """Carries the plan, or the failure to make one, and tells the pass that it has been here."""

    def __init__(self, plan: Plan):
        self.plan = plan

    def clone(self):
        return PlanFeature(self.plan)


def plan_of(fgraph) -> Plan | None:
    for feature in getattr(fgraph, "_features", ()):
        if isinstance(feature, PlanFeature):
            return feature.plan
    return None


class GuardedPass(GraphRewriter):
    """A pass that never harms: any error inside, but for one in the policy, leaves the graph as it was."""

    def add_requirements(self, fgraph):
        if not any(isinstance(f, PreserveVariableAttributes) for f in fgraph._features):
            fgraph.attach_feature(PreserveVariableAttributes())

    def apply(self, fgraph):
        plan = plan_of(fgraph)
        if plan is not None and plan.failure:
            return
        try:
            self.attempt(fgraph)
        except PolicyError:
            raise
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
            logger.warning(
                "autotune left the graph as PyTensor compiles it: %s. Please report this.", failure
            )
            logger.debug("autotune traceback", exc_info=True)
            if plan is None:
                fgraph.attach_feature(PlanFeature(Plan(failure=failure)))

    def attempt(self, fgraph):
        raise AttributeError(f"{type(self).__name__} defines no attempt")


class ProtectStructure(GuardedPass):
    """Moment 1, before canonicalize: put structure that it would destroy out of its reach."""

    def attempt(self, fgraph):
        from autotune.early import guard_structure, split_determinants, sum_diagonals_of_products
        from autotune.reading import has_roots

        if has_roots(fgraph):
            split_determinants(fgraph)
            sum_diagonals_of_products(fgraph)
            guard_structure(fgraph)


class DecideBeforeAutodiff(GuardedPass):
    """Moment 2 where differentiation is still to come: accepted problems become request Ops."""

    def __init__(self, policy=None):
        self.policy = policy

    def attempt(self, fgraph):
        from autotune.building import defer

        def commit(reading, decision):
            if decision.problem.asks("factor"):
                return None  # it has no request Op: PyTensor differentiates it, the final compile decides
            wait = decision.undecided and gains_by_waiting(decision.problem)
            return defer(reading, decision) if wait or decision.chosen != "keep" else None

        tune_graph(fgraph, self.policy, commit, differentiated=True, linker=linker_kind(fgraph))


def gains_by_waiting(problem) -> bool:
    """Whether request Ops pay by themselves: their pullback is cheaper than that of Cholesky idioms."""
    return any(r.form == "cholesky" for r in problem.requests) and not problem.asks("factor")


class AutotunePass(GuardedPass):
    """Moments 2 and 3 in the final compile: read, decide, and write the chosen algorithms.

    Request Ops from before autodiff are lowered by the decision that they carry. ``only_lower``
    does no more than that.
    """

    def __init__(self, policy=None, *, only_lower: bool = False):
        self.policy = policy
        self.only_lower = only_lower

    def attempt(self, fgraph):
        from autotune.early import release_structure

        changed = False
        try:
            commit = lower_requests if self.only_lower else lower_all
            linker = linker_kind(fgraph)
            changed = tune_graph(fgraph, self.policy, commit, differentiated=False, linker=linker)
        finally:
            release_structure(fgraph, in_expressions=changed)


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
    from autotune.building import lower

    if reading.carried is not None:
        return lower(reading, decision, _carried_assignment(reading, decision))
    if reading.deferred or decision.chosen != "keep":
        return lower(reading, decision, decision.assignment)
    return None


def lower_requests(reading, decision):
    return lower_all(reading, decision) if reading.deferred else None


def _carried_assignment(reading, decision):
    """The strategy decided before autodiff, or PyTensor's own where it cannot serve here."""
    from autotune.choose import Options, strategy

    options = Options(logdet_rtol=decision.logdet_rtol, forced=True, carried=True)
    no = strategy(reading.carried).declines(decision.problem, options)
    return ("keep" if no is not None else reading.carried,) * len(reading.requests)


def tune_graph(fgraph, policy, commit, *, differentiated, linker) -> bool:
    """Read the problems of ``fgraph``, decide each, and replace all that ``commit`` answers in one go.

    ``commit(reading, decision)`` gives the answers to the requests of a reading, None to leave it
    as written. Returns whether anything was replaced.
    """
    from autotune.building import wire
    from autotune.choose import choose
    from autotune.policy_files import layered
    from autotune.reading import has_roots, read
    from autotune.session import enabled_policies, publish
    from autotune.sizes import Sizes
    from cost_models import find_profile

    if plan_of(fgraph) is not None:
        return False
    decisions: list[Decision] = []
    replacements: list[tuple] = []
    if has_roots(fgraph):
        policy = layered(*enabled_policies, policy)
        profile = find_profile()
        sizes = Sizes(fgraph, policy.sizes)
        answered: list[Any] = []
        answers: dict[Any, Any] = {}
        for reading in read(fgraph):
            problem = problem_of(reading, sizes, differentiated=differentiated, linker=linker)
            if problem.structure == ("diagonal",):
                continue
            if reading.carried is None:
                decision = choose(problem, policy, profile)
                decisions.append(decision)
            else:
                decision = carried_decision(reading, problem)
                decisions.append(reading.decision or decision)
            found = commit(reading, decision)
            if found is not None:
                answered.append(reading)
                answers |= found
        replacements = wire(answered, answers, fgraph.variables)
        for old, new in replacements:
            copy_stack_trace(old, new)
    if replacements:
        # Downstream first: what is built there may use what is replaced upstream, and must follow it.
        position = {node: i for i, node in enumerate(fgraph.toposort())}
        replacements.sort(key=lambda pair: -position[pair[0].owner])
        fgraph.replace_all_validate(replacements, reason="autotune")
    plan = Plan(tuple(dict.fromkeys(decisions)))
    fgraph.attach_feature(PlanFeature(plan))
    if decisions and not differentiated:
        publish(plan)
    return bool(replacements)


def carried_decision(reading, problem) -> Decision:
    """The decision from before autodiff for what its requests have become in the joint graph."""
    from dataclasses import replace

    if reading.decision is not None:
        return replace(reading.decision, problem=problem)
    names = (reading.carried,) * len(problem.requests)
    return Decision(problem=problem, chosen=reading.carried, assignment=names, candidates=())


def problem_of(reading, sizes, *, differentiated, linker):
    """The plain data of a reading."""
    from dataclasses import replace

    from autotune.facts import nonnegative
    from autotune.operators import LowRank
    from autotune.problem import Problem

    operator = reading.operator
    part = operator.parts[0]
    named = reading.matrix if reading.matrix is not None else part
    low_rank = next((t for t in getattr(operator, "terms", ()) if isinstance(t, LowRank)), None)
    n = sizes.of(named, -1 if named is reading.matrix or operator.structure == ("dense",) else 0)
    if n is None:
        n = next((a.rhs.type.shape[-2] for a in reading.requests.values() if a.rhs is not None), None)
    requests = []
    for asked in reading.requests.values():
        columns = 1 if asked.rhs is None else sizes.of(asked.rhs, -1)
        requests.append(replace(asked.request, columns=columns))
    batch: int | None = 1
    if reading.batched:
        for axis in range(part.ndim - 2):
            length = sizes.of(part, axis)
            batch = None if batch is None or length is None else batch * length
    return Problem(
        requests=tuple(requests),
        n=n,
        structure=operator.structure,
        rank=None if low_rank is None else sizes.of(low_rank.U, 1),
        symmetric_terms=low_rank is None or low_rank.symmetric,
        nonnegative_weights=low_rank is None or low_rank.c is None or nonnegative(low_rank.c),
        dtype=reading.dtype,
        batch=batch,
        positive_definite=reading.positive_definite,
        symmetric=reading.symmetric,
        shared=reading.shared,
        differentiated=differentiated,
        linker=linker,
        name=reading.name,
    )
