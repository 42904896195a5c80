"""Say what you know of a matrix, and iterative solvers use it: about its inverse, its condition number.

What is said is a mark on the variable. It computes nothing, lets PyTensor's assumptions and gradients
through, and is dropped when the graph is compiled, with autotune or without.
"""

from __future__ import annotations

import math
from functools import cache
from numbers import Real
from typing import ClassVar

import pytensor.tensor as pt
from pytensor.assumptions.core import PERMUTATION, SELECTION, FactState, register_universal_assumption
from pytensor.compile.mode import optdb
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.tensor.variable import TensorVariable

from autotune.algebra.host import vectorize_node

# After autotune has read the graph (1.4), before PyTensor lowers solves (1.5).
DROP_POSITION = 1.45


class Mark(Op):
    """``A`` itself, its first input; the other inputs and the properties say what is known of it."""

    view_map: ClassVar = {0: [0]}

    def __new__(cls, *args, **kwargs):
        """A mark. PyTensor is told of them when the first is made or unpickled: importing changes nothing."""
        register()
        return super().__new__(cls)

    def make_node(self, A, *known):
        return Apply(self, [A, *known], [A.type()])

    def perform(self, node, inputs, outputs):
        outputs[0][0] = inputs[0]

    def do_constant_folding(self, fgraph, node):
        return False

    def infer_shape(self, node, shapes):
        return [shapes[0]]

    def connection_pattern(self, node):
        return [[True], *([False] for _ in node.inputs[1:])]

    def pullback(self, inputs, outputs, output_grads):
        return [output_grads[0], *(disconnected_type() for _ in inputs[1:])]


class SpecifyPreconditioner(Mark):
    """``A``, marked with ``M ~ A^-1``; M is read only by what iterates."""

    __props__ = ()


class SpecifyConditionNumber(Mark):
    """``A``, marked with the most that its condition number may be."""

    __props__ = ("condition_number",)

    def __init__(self, condition_number: float):
        self.condition_number = condition_number


class AsWritten(Mark):
    """``A``, so that PyTensor does not take it apart before it has been read, nor index by it."""

    __props__ = ()


MARKS = (SpecifyPreconditioner, SpecifyConditionNumber, AsWritten)


def precondition(A, M) -> TensorVariable:
    """``A`` itself, and the knowledge that ``M`` is about ``A^-1``, up to a scalar factor.

    A (n, n) is the matrix to be solved with, M (n, n) symmetric positive definite: a variable or an array.
    One that is written as diagonal plus low rank is multiplied as such. Where conjugate gradients are chosen
    for A they iterate on ``M A``, and a ``condition_number`` that is declared means that of ``M A``. M speeds
    the solve up and changes no result: the residual that is checked is that of A, gradients do not reach M,
    and one that is not positive definite, or not close, ends in the direct way. Anything else that is done
    with A, also by PyTensor without autotune, ignores M.
    TypeError unless both are real matrices.
    """
    A, M = _real_matrix("matrix", A), _real_matrix("preconditioner", M)
    return SpecifyPreconditioner()(A, M.astype(A.type.dtype))


def assume_condition_number(A, condition_number: float) -> TensorVariable:
    """``A`` itself, and the knowledge that its 2-norm condition number is at most ``condition_number``.

    A (n, n) is the matrix to be solved with; with `precondition` as well, in either order, the number is
    that of ``M A``. It holds for multiples and the transpose of A too, not for a sum with something else. Of
    several the smallest counts; a ``condition_number`` in the policy overrules them all, and nothing is
    probed. It says how many iterations to expect, and changes no result: conjugate gradients that do not
    converge end in the direct way. Anything else that is done with A, also by PyTensor without autotune,
    ignores it.
    TypeError unless A is a real matrix and the number a plain one, ValueError unless it is finite and at
    least 1.
    """
    A = _real_matrix("matrix", A)
    if not isinstance(condition_number, Real) or isinstance(condition_number, bool):
        raise TypeError(
            f"The condition number is a {type(condition_number).__name__}. "
            "It must be a plain number: it is read when the graph is compiled."
        )
    number = float(condition_number)
    if not 1 <= number < math.inf:
        raise ValueError(f"The condition number is {number}. It must be a finite number, 1 or more.")
    return SpecifyConditionNumber(number)(A)


def _real_matrix(name: str, value) -> TensorVariable:
    var = pt.as_tensor_variable(value)
    if var.type.ndim != 2 or var.type.numpy_dtype.kind not in "fiu":
        raise TypeError(
            f"The {name} has {var.type.ndim} dimensions and dtype {var.type.dtype}. It must be a real matrix."
        )
    return var


@cache
def register() -> None:
    """Let PyTensor see through marks, and drop them: of a batch, for which nothing iterates, at once."""

    @register_universal_assumption(*MARKS)
    def facts_of_the_matrix(key, op, feature, fgraph, node, input_states):
        hidden = isinstance(op, AsWritten) and key in (SELECTION, PERMUTATION)
        return [FactState.UNKNOWN if hidden else input_states[0]]

    @vectorize_node.register(Mark)
    def vectorize_mark(op, node, A, *known):
        return [A]

    @node_rewriter(list(MARKS))
    def drop_mark(fgraph, node):
        return [node.inputs[0]]

    drop_marks = dfs_rewriter(drop_mark)
    optdb.register("autotune_drop_marks", drop_marks, "fast_run", "fast_compile", position=DROP_POSITION)
