"""What is symmetric in every step of a Scan: states by induction, what comes from outside, traces of states.

A state is symmetric if it begins so and a step, given one that is symmetric, makes one that is: so is the
covariance of a Kalman filter, however it is updated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pytensor.graph.basic import Constant
from pytensor.scan.op import Scan
from pytensor.tensor.basic import AllocEmpty
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.subtensor import IncSubtensor, Subtensor

from autotune.read.facts import Facts
from autotune.read.symmetry import Symmetry
from autotune.read.views import drop_leading_ones


def symmetric_inputs(node: Any, inputs: list[Any], outputs: list[Any], facts: Facts) -> set[Any]:
    """Those of the ``inputs`` of a step, 2-d, that are proven to be symmetric in each of them.

    ``outputs``: what the step makes of ``inputs``. ``facts``: of the graph around ``node``, a Scan.
    """
    op = node.op
    fixed = [*zip(op.inner_non_seqs(inputs), op.outer_non_seqs(node.inputs), strict=True)]
    known = {inner for inner, outer in fixed if _is_matrix(inner) and facts.symmetric(outer)}
    in_steps = zip(op.inner_seqs(inputs), op.outer_seqs(node.inputs), strict=True)
    known |= {inner for inner, outer in in_steps if _is_matrix(inner) and _is_symmetric_trace(outer, facts)}
    begun = {
        state: made
        for state, first, made in _states(node, inputs, outputs)
        if _is_matrix(state) and _is_symmetric(first, facts)
    }
    while begun:
        proofs = Symmetry((known | begun.keys()).__contains__)
        lasting = {state: made for state, made in begun.items() if proofs.holds(made)}
        if len(lasting) == len(begun):
            break
        begun = lasting
    return known | begun.keys()


def _states(node: Any, inputs: list[Any], outputs: list[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Each state of one step back: as it enters a step, what it begins with, and as the step makes it."""
    op = node.op
    traced = op.outer_sitsot(node.inputs)
    for inner, outer, made in zip(
        op.inner_sitsot(inputs), traced, op.inner_sitsot_outs(outputs), strict=True
    ):
        yield inner, _first(outer), made
    untraced = op.outer_untraced_sit_sot(node.inputs)
    yield from zip(
        op.inner_untraced_sit_sot(inputs), untraced, op.inner_untraced_sit_sot_outs(outputs), strict=True
    )


def _first(buffer: Any) -> Any:
    """What the buffer of a state is filled with before the first step, with a leading axis of length 1."""
    match buffer.owner_op_and_inputs:
        case (IncSubtensor(set_instead_of_inc=True), empty, value, *_) if isinstance(
            empty.owner_op, AllocEmpty
        ):
            return value
    return buffer


def _is_symmetric(first: Any, facts: Facts) -> bool:
    if isinstance(first, Constant):
        return bool(np.array_equal(first.data, np.swapaxes(first.data, -1, -2)))
    matrix = _without_ones(first)
    return matrix.type.ndim == 2 and facts.symmetric(matrix)


def _without_ones(var: Any) -> Any:
    """A matrix without a leading axis of length 1, which PyTensor gives to all that it is made of."""
    if var.type.ndim <= 2:
        return var
    match var.owner_op_and_inputs:
        case (Elemwise() as op, *inputs) if all(i.type.ndim == 3 for i in inputs):
            return op(*map(_without_ones, inputs))
    return drop_leading_ones(var)


def _is_symmetric_trace(sequence: Any, facts: Facts) -> bool:
    """Whether it is what a Scan gives of each step, in any order, symmetric in each."""
    match sequence.owner_op_and_inputs:
        case (Subtensor(idx_list=(_,)), inner, *_) if inner.type.ndim == sequence.type.ndim:
            return _is_symmetric_trace(inner, facts)
        case (Scan() as op, *_):
            inputs, outputs = list(op.fgraph.inputs), list(op.fgraph.outputs)
            known = symmetric_inputs(sequence.owner, inputs, outputs, facts)
            traces = sequence.owner.outputs
            states = zip(op.outer_sitsot_outs(traces), op.inner_sitsot(inputs), strict=True)
            others = zip(op.outer_nitsot_outs(traces), op.inner_nitsot_outs(outputs), strict=True)
            if (state := dict(states).get(sequence)) is not None:
                return state in known
            made = dict(others).get(sequence)
            return made is not None and Symmetry(known.__contains__).holds(made)
    return False


def _is_matrix(var: Any) -> bool:
    return var.type.ndim == 2 and not any(var.type.broadcastable)
