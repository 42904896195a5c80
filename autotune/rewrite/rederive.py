"""Gradients that the user took: recognised by taking them again, then taken of the value as decided.

    cost, d cost / dv    ->    decided(cost), d decided(cost) / dv

``pt.grad`` leaves the seed of every gradient in the graph, ``second(cost, 1)``, whatever is made of cost and
gradient afterwards. The cost of a seed is differentiated again by all that it is made of. What the function
computes by the same Ops from the same variables as one of these gradients *is* that gradient: no pattern of
any structure's pullback is needed. Then all is as if the user had called ``tune`` before ``pt.grad``.

Done before PyTensor merges anything, for gradients of a merged graph are others. In doubt the graph
stays as it is, and contractions are read from it (`autotune.read.contracted`): where a gradient is
differentiated again (Hessians), where some of its terms are used alone, where it is taken by a matrix that
is solved with, whose structure would be out of reach, or where a Cholesky factor is asked of a matrix that
nothing proves to be symmetric.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.assumptions import SpecifyAssumptions
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.null_type import NullType
from pytensor.graph.rewriting.basic import copy_stack_trace, get_active_mode
from pytensor.graph.traversal import ancestors, toposort
from pytensor.scan.op import Scan
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.linalg.decomposition.eigen import Eigh
from pytensor.tensor.type import TensorType, float_dtypes

from autotune.algebra.guarded import Guarded
from autotune.algebra.marks import Mark
from autotune.algebra.requests import RequestOp
from autotune.plan.feature import enclosing, plan_of
from autotune.read.scan import core_of, has_roots, is_root
from autotune.read.views import strip_view
from autotune.rewrite.before_autodiff import decided
from autotune.rewrite.build import check_order, substitute
from autotune.rewrite.passes import GuardedPass
from autotune.rewrite.steps import has_requests

# Before OpFromGraphs are inlined (-0.01) and equal variables merged (0), as the user's `pt.grad` saw them.
REDERIVE_POSITION = -0.5
# Costs of one function that are differentiated again: each takes time to compile.
MOST_COSTS = 4
# Constants with more numbers than that are equal only if they are one.
MOST_COMPARED = 100

logger = logging.getLogger("autotune")


class DecideTakenGradients(GuardedPass):
    """Moment 0 of a function's compile: decide before automatic differentiation what was differentiated."""

    leaves = "the gradient as the user took it"

    def __init__(self, policy=None, examples=None):
        self.policy = policy
        self.examples = examples

    def attempt(self, fgraph):
        costs = costs_of(fgraph)
        if not costs or plan_of(fgraph) is not None or enclosing(fgraph) is not None:
            return
        same = Same(fgraph)
        taken = taken_gradients(fgraph, costs, same)
        if taken:
            replacements = self._replacements(fgraph, taken, same)
            fgraph.replace_all_validate(replacements, reason="autotune_rederive")

    def _replacements(self, fgraph, taken: dict[Any, Taken], same: Same) -> list[tuple]:
        """Costs, gradients and what else is made of their matrices, as pairs of old and new; none if no
        problem is accepted."""
        costs = list(dict.fromkeys(gradient.cost for gradient in taken.values()))
        others = _of_the_same_matrices(fgraph, costs, taken, same)
        by = list(dict.fromkeys(gradient.by for gradient in taken.values()))
        given = [*taken, *(v for v in by if v.owner is not None)]
        mode = get_active_mode(fgraph)
        new = decided([*costs, *others], self.policy, self.examples, given=given, mode=mode)
        asked = [op.spec for op in _requests(new)]
        mended = _eigenproblems(new) < _eigenproblems([*costs, *others])
        if not (asked or mended) or any(_reads_one_triangle(spec) for spec in asked):
            return []
        values = dict(zip(costs, new, strict=False))
        gradients = _gradients_of(values, taken)
        replaced = [*zip([*costs, *others], new, strict=True), *gradients.items()]
        if any(old.type.dtype != var.type.dtype for old, var in replaced):
            return []  # of inputs in several precisions PyTensor's own gradient may be the more precise
        pairs = {old: old.type.filter_variable(g, allow_convert=True) for old, g in gradients.items()}
        rest = substitute(new[len(costs) :], pairs)
        for old, var in [*values.items(), *zip(others, rest, strict=True)]:
            pairs[old] = old.type.filter_variable(var, allow_convert=True)
        found = list(pairs.items())
        check_order(fgraph.outputs, found)
        for old, var in found:
            copy_stack_trace(old, var)
        return found

    def give_up(self, fgraph, plan, failure):
        """The gradient is read as it stands."""


def _eigenproblems(variables: Iterable[Any]) -> int:
    """How many there are: fewer once densities in eigenvectors are written with their covariance, whose
    gradient is another where eigenvalues repeat."""
    nodes = {var.owner for var in ancestors(variables) if var.owner is not None}
    return sum(isinstance(core_of(node.op), Eigh) for node in nodes)


def _requests(variables: Iterable[Any]) -> Iterator[RequestOp]:
    """The request Ops that ``variables`` are made of, those in guarded answers and steps too."""
    for op in map(_op, ancestors(variables)):
        if isinstance(op, RequestOp):
            yield op
        elif isinstance(op, Guarded | Scan):
            yield from _requests(op.inner_outputs)


def _reads_one_triangle(spec) -> bool:
    """Whether the gradient by the entries of the matrix may be another array: plain PyTensor's is that of the
    triangle which its Cholesky factor reads, as long as nothing proves that the other one is the same."""
    return spec.checked and not (spec.symmetric or spec.positive_definite)


# -- what was differentiated ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Taken:
    """The gradient of ``cost`` by ``by``."""

    cost: Any
    by: Any


def costs_of(fgraph) -> list[Any]:
    """Scalars that were differentiated, made of matrices of which nothing has been decided.

    None if one is made of the gradient of another, and none if they are many.
    """
    if not any(map(_has_matrix, fgraph.apply_nodes)):
        return []
    seeded = dict.fromkeys(node.inputs[0] for node in fgraph.toposort() if _is_seed(node))
    above = {cost: set(ancestors([cost])) for cost in seeded}
    costs = [cost for cost in seeded if _is_undecided(above[cost])]
    seeds = {
        var for var in fgraph.variables if var.owner and _is_seed(var.owner) and var.owner.inputs[0] in costs
    }
    few = len(costs) <= MOST_COSTS
    return costs if few and all(seeds.isdisjoint(above[cost]) for cost in costs) else []


def _is_seed(node) -> bool:
    """``second(cost, 1)``: the gradient of a scalar by itself, with which `pt.grad` begins."""
    if not (isinstance(node.op, Elemwise) and isinstance(node.op.scalar_op, ps.Second)):
        return False
    cost, one = node.inputs
    return node.outputs[0].ndim == 0 and cost.type.dtype in float_dtypes and getattr(one, "data", None) == 1


def _has_matrix(node) -> bool:
    """Whether it asks something of a matrix, or is a Scan whose steps do."""
    return is_root(node) or (isinstance(node.op, Scan) and has_roots(node.op.fgraph))


def _is_undecided(variables: Iterable[Any]) -> bool:
    asking = [var.owner for var in variables if var.owner is not None and _has_matrix(var.owner)]
    return bool(asking) and not any(
        has_requests(op) if isinstance(op := core_of(node.op), Scan) else isinstance(op, RequestOp)
        for node in asking
    )


def taken_gradients(fgraph, costs, same: Same) -> dict[Any, Taken]:
    """Which variables of the graph are gradients of ``costs`` that something else uses; none in doubt."""
    gradients: dict[Any, Taken] = {}
    parts: set[Any] = set()
    for cost in costs:
        by = list(_differentiable(fgraph, cost))
        again = _differentiated(cost, by)
        parts |= _parts_of(again, cost, same)
        for v, g in zip(by, again, strict=True):
            if g is not None:
                gradients.setdefault(same.of(g), Taken(cost, v))
    values = {same.of(var) for var in ancestors(costs)}
    found = _used(fgraph.outputs, same, gradients, parts - values, values)
    return {} if found is None or _hides_structure(fgraph, found) else found


def _differentiable(fgraph, cost) -> Iterator[Any]:
    """Variables that ``cost`` may have been differentiated by, inputs first."""
    above = set(ancestors([cost])) - {cost}
    inner = (out for node in fgraph.toposort() for out in node.outputs)
    for var in (*fgraph.inputs, *inner):
        if var in above and isinstance(var.type, TensorType) and var.type.dtype in float_dtypes:
            yield var


def _differentiated(cost, by) -> list[Any]:
    """The gradient by each of ``by``; None where there is none."""
    try:
        found = pt.grad(
            cost,
            by,
            disconnected_inputs="ignore",
            add_names=False,
            return_disconnected="none",
            null_gradients="return",
        )
    except Exception:  # an Op without a gradient may raise anything: the user asked for fewer gradients
        logger.debug("autotune cannot differentiate %s again", cost, exc_info=True)
        return [None] * len(by)
    return [None if g is None or isinstance(g.type, NullType | DisconnectedType) else g for g in found]


def _parts_of(gradients, cost, same: Same) -> set[Any]:
    """All that gradients are made of and that depends on their seed; each is told what is the same."""
    parts: set[Any] = set()
    for node in toposort([g for g in gradients if g is not None], blockers=same.known):
        same.add(node)
        if (_is_seed(node) and node.inputs[0] is cost) or any(same.of(i) in parts for i in node.inputs):
            parts |= {same.of(out) for out in node.outputs}
    return parts


def _used(outputs, same: Same, gradients, parts, values) -> dict[Any, Taken] | None:
    """The gradients that outputs are made of; None if some are made of other parts of gradients."""
    used: dict[Any, Taken] = {}
    walked: set[Any] = set()
    queue = list(outputs)
    while queue:
        var = queue.pop()
        first = same.of(var)
        if var in walked or first in values:
            continue
        walked.add(var)
        if first in gradients:
            used[var] = gradients[first]
        elif first in parts:
            return None
        elif var.owner is not None:
            queue += var.owner.inputs
    return used


def _hides_structure(fgraph, taken: dict[Any, Taken]) -> bool:
    """Whether a gradient is by a term of a matrix that is solved with, or by what is made of the results."""
    by = {gradient.by for gradient in taken.values() if gradient.by.owner is not None}
    return any(_is_undecided(ancestors([v])) for v in by) or not by.isdisjoint(_terms_of_matrices(fgraph))


def _terms_of_matrices(fgraph) -> set[Any]:
    """What matrices that are solved with are sums, multiples and views of."""
    found: set[Any] = set()
    queue = [node.inputs[0] for node in fgraph.apply_nodes if is_root(node)]
    while queue:
        var = queue.pop()
        if var not in found and var.ndim >= 2 and not any(var.type.broadcastable[-2:]):
            found.add(var)
            if isinstance(_op(var), Elemwise | DimShuffle | SpecifyAssumptions | Mark):
                queue += var.owner.inputs
    return found


class Same:
    """Variables that the same Ops compute from the same variables: those that merging would make one."""

    def __init__(self, fgraph):
        self.known = set(fgraph.variables)
        self._first: dict[Any, Any] = {}
        self._nodes: dict[Any, Any] = {}
        for node in fgraph.toposort():
            self.add(node)

    def add(self, node) -> None:
        """Find the first node with equal Op and inputs; those of its inputs have been added."""
        first = self._nodes.setdefault((node.op, *map(self.of, node.inputs)), node)
        if first is not node:
            self._first.update(zip(node.outputs, map(self.of, first.outputs), strict=True))

    def of(self, var) -> Any:
        """The first variable that is the same as ``var``."""
        if isinstance(var, Constant) and var not in self._first:
            small = getattr(var.data, "size", 0) <= MOST_COMPARED
            self._first[var] = self._nodes.setdefault(var.merge_signature(), var) if small else var
        return self._first.get(var, var)


# -- what is made of it -------------------------------------------------------------------------------------


def _of_the_same_matrices(fgraph, costs, taken, same: Same) -> list[Variable]:
    """Outputs that ask more of the matrices of ``costs``, gradients apart: one decision serves all."""
    matrices = {same.of(matrix) for matrix in _matrices(ancestors(costs))}
    found: list[Variable] = []
    for out in dict.fromkeys(fgraph.outputs):
        if out not in costs and out not in taken:
            asked = _matrices(var for var in ancestors([out], blockers=taken) if var not in taken)
            found += [] if matrices.isdisjoint(map(same.of, asked)) else [out]
    return found


def _matrices(variables) -> set[Any]:
    """What is solved with, inverted or factorised among ``variables``."""
    nodes = (var.owner for var in variables if var.owner is not None)
    return {strip_view(node.inputs[0])[0] for node in nodes if is_root(node)}


def _gradients_of(values: dict[Any, Any], taken: dict[Any, Taken]) -> dict[Any, Any]:
    """For each variable of ``taken`` the gradient of its cost's new value."""
    found: dict[Any, Any] = {}
    for cost, value in values.items():
        of_cost = {old: gradient.by for old, gradient in taken.items() if gradient.cost is cost}
        by = list(dict.fromkeys(of_cost.values()))
        new = dict(zip(by, pt.grad(value, by, disconnected_inputs="ignore", add_names=False), strict=True))
        found |= {old: new[v] for old, v in of_cost.items()}
    return found


def _op(var):
    return None if var.owner is None else var.owner.op
