"""Scans: what a step's matrices are made of goes back inside, where they are read.

PyTensor moves out of a Scan what is the same in all its steps: of ``Z P Z' + diag(h)`` the step then sees
``Z'`` and the diagonal matrix as inputs that could be anything. Views and diagonal matrices are put back,
and what is symmetric in every step is said (`autotune.read.states`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytensor.tensor as pt
from pytensor.assumptions import assume
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import ancestors
from pytensor.scalar import Cast
from pytensor.scan.op import Scan
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.subtensor import Subtensor
from pytensor.tensor.type import TensorType

from autotune.algebra.diagonal import Diagonal
from autotune.algebra.requests import RequestOp
from autotune.read.contractions import diagonal_of
from autotune.read.facts import Facts
from autotune.read.matrices import Recogniser
from autotune.read.scan import has_roots
from autotune.read.states import symmetric_inputs


def tell_steps(fgraph: Any) -> None:
    """Tell the steps of each Scan in which matrices are solved with what these are made of."""
    for node in fgraph.toposort():
        if isinstance(node.op, Scan) and has_roots(node.op.fgraph):
            told = Steps(node, Facts(fgraph)).told()
            if told is not None:
                pairs = list(zip(node.outputs, told.outputs, strict=True))
                fgraph.replace_all_validate(pairs, reason="autotune_steps")


def decide_steps(fgraph: Any, decide: Callable[[Any, Any], None]) -> None:
    """Let ``decide(steps, fgraph)`` write request Ops into the steps of Scans that are still to be
    differentiated; where it writes none, the Scan stays as it is."""
    for node in fgraph.toposort():
        if isinstance(node.op, Scan) and has_roots(node.op.fgraph) and not has_requests(node.op):
            told = Steps(node, Facts(fgraph)).told() or node
            steps = told.op.fgraph.unfreeze()
            decide(steps, fgraph)
            op = scan_like(told.op, steps.inputs, steps.outputs, told.op.info)
            if has_requests(op):
                pairs = list(zip(node.outputs, op.make_node(*told.inputs).outputs, strict=True))
                fgraph.replace_all_validate(pairs, reason="autotune_steps")


def has_requests(op: Scan) -> bool:
    """Whether it has been decided what serves matrices of its steps."""
    return any(isinstance(node.op, RequestOp) for node in op.fgraph.apply_nodes)


class Steps:
    """The steps of a Scan; ``sequences`` and ``fixed`` are their new inputs, by what they are outside."""

    def __init__(self, node: Any, facts: Facts) -> None:
        self.node = node
        self.facts = facts
        self.recogniser = Recogniser()
        self.sequences: dict[Any, tuple[Any, Any]] = {}
        self.fixed: dict[Any, Any] = {}

    def told(self) -> Any:
        """The node that does the same; None if nothing is known that its steps do not see."""
        op, outside = self.node.op, self.node.inputs
        inner = list(op.fgraph.inputs)
        states = [var.type() for var in inner[op.info.n_seqs : len(inner) - op.info.n_non_seqs]]
        given = [
            *map(self._of_a_step, op.inner_seqs(inner), op.outer_seqs(outside)),
            *states,
            *map(self._in_all_steps, op.inner_non_seqs(inner), op.outer_non_seqs(outside)),
        ]
        symmetric = symmetric_inputs(self.node, given, op.fgraph.bind(given), self.facts)
        said = [assume(v, symmetric=True) if v in symmetric and v.owner is None else v for v in given]
        if all(v.owner is None for v in said):
            return None
        return self._node(states, op.fgraph.bind(said))

    def _of_a_step(self, inner: Any, outer: Any) -> Any:
        """One step of a sequence; where that is of views, the view of one step of what they are views of."""
        key, sequence, order = _views_of_steps(outer)
        if key not in self.sequences:
            self.sequences[key] = sequence, TensorType(sequence.type.dtype, sequence.type.shape[1:])()
        step = self.sequences[key][1].astype(outer.type.dtype)
        if order != tuple(range(step.type.ndim)):
            step = step.dimshuffle(order)
        if inner.type.is_super(step.type):
            return step
        return self.sequences.setdefault((outer, inner), (outer, inner.type()))[1]

    def _in_all_steps(self, inner: Any, outer: Any) -> Any:
        made = self._inside(outer)
        if inner.type.is_super(made.type):
            return made
        return self.fixed.setdefault(outer, inner.type())

    def _inside(self, outer: Any) -> Any:
        """What ``outer`` is inside: a view of something, a diagonal matrix, or an input."""
        if isinstance(outer, Constant):
            return outer
        match outer.owner_op_and_inputs:
            case (DimShuffle(new_order=order), viewed):
                return self._inside(viewed).dimshuffle(order)
        if outer.type.ndim == 2 and not any(outer.type.broadcastable):
            terms = self.recogniser.terms(outer)
            if terms and all(isinstance(term, Diagonal) for term in terms):
                return pt.diag(self._inside(diagonal_of(terms)))
        if outer not in self.fixed:
            self.fixed[outer] = outer.type()
        return self.fixed[outer]

    def _node(self, states: list[Any], outputs: list[Any]) -> Any:
        """The Scan with these steps, of those inputs that they need."""
        op, outside = self.node.op, self.node.inputs
        needed = set(ancestors(outputs))
        sequences = [pair for pair in self.sequences.values() if pair[1] in needed]
        fixed = [pair for pair in self.fixed.items() if pair[1] in needed]
        inputs = [*(step for _, step in sequences), *states, *(inner for _, inner in fixed)]
        info = replace(op.info, n_seqs=len(sequences), n_non_seqs=len(fixed))
        kept = outside[1 + op.info.n_seqs : len(outside) - op.info.n_non_seqs]
        given = [outside[0], *(seq for seq, _ in sequences), *kept, *(outer for outer, _ in fixed)]
        return scan_like(op, inputs, outputs, info).make_node(*given)


def scan_like(op: Scan, inputs: list[Any], outputs: list[Any], info: Any) -> Scan:
    """A Scan with other steps."""
    return Scan(
        inputs,
        outputs,
        info,
        mode=op.mode,
        profile=op.profile,
        truncate_gradient=op.truncate_gradient,
        name=op.name,
        allow_gc=op.allow_gc,
    )


def _views_of_steps(sequence: Any) -> tuple[Any, Any, tuple[Any, ...]]:
    """``(key, base, order)``: each step of ``sequence`` is that of ``base``, or of a mask as numbers, with
    its axes in another order.

    Steps may be left out, or run backwards: the views are of the same steps of what ``key`` stands for.
    """
    taken: list[Any] = []
    order: tuple[Any, ...] = tuple(range(sequence.type.ndim - 1))
    base = sequence
    while True:
        match base.owner_op_and_inputs:
            case (DimShuffle(new_order=(0, *rest)), viewed):
                order = tuple(axis if axis == "x" else rest[axis] for axis in order)
                order = tuple(axis if axis == "x" else axis - 1 for axis in order)
                base = viewed
            case (Subtensor(idx_list=(_,)) as op, viewed, *index) if viewed.type.ndim == base.type.ndim:
                taken.append((op, *index))
                base = viewed
            case (Elemwise(scalar_op=Cast()), mask) if mask.type.dtype == "bool":
                base = mask
            case _:
                break
    key = (base, *taken)
    if base.type.dtype == sequence.type.dtype and order == tuple(range(sequence.type.ndim - 1)):
        return key, sequence, order
    for op, *index in reversed(taken):
        base = op(base, *index)
    return key, base, order
