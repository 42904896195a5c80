"""Say what is about the inverse of a matrix, where you know it, and it preconditions iterative solves."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import pytensor.tensor as pt
from pytensor.assumptions.core import register_universal_assumption
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.tensor.rewriting.basic import register_specialize
from pytensor.tensor.variable import TensorVariable


class SpecifyPreconditioner(Op):
    """``A``, marked with ``M ~ A^-1``; nothing is computed, and M is read only by what iterates."""

    __props__ = ()
    view_map: ClassVar = {0: [0]}

    def make_node(self, A, M):
        return Apply(self, [A, M], [A.type()])

    def perform(self, node, inputs, outputs):
        outputs[0][0] = inputs[0]

    def infer_shape(self, node, shapes):
        return [shapes[0]]

    def connection_pattern(self, node):
        return [[True], [False]]

    def pullback(self, inputs, outputs, output_grads):
        return [output_grads[0], disconnected_type()]


def precondition(A, M) -> TensorVariable:
    """``A`` itself, and the knowledge that ``M`` is about ``A^-1``, up to a scalar factor.

    A (n, n) is the matrix to be solved with, M (n, n) symmetric positive definite: a variable or an array.
    One that is written as diagonal plus low rank is multiplied as such. Where conjugate gradients are chosen
    for A they iterate on ``M A``, and a ``condition_number`` in the policy means that of ``M A``. M speeds
    the solve up and changes no result: the residual that is checked is that of A, gradients do not reach M,
    and one that is not positive definite, or not close, ends in the direct way. Anything else that is done
    with A, also by PyTensor without autotune, ignores M.
    TypeError unless both are real matrices.
    """
    A, M = pt.as_tensor_variable(A), pt.as_tensor_variable(M)
    for name, var in (("matrix", A), ("preconditioner", M)):
        if var.type.ndim != 2 or var.type.numpy_dtype.kind not in "fiu":
            raise TypeError(
                f"The {name} has {var.type.ndim} dimensions and dtype {var.type.dtype}. "
                "It must be a real matrix."
            )
    _register()
    return SpecifyPreconditioner()(A, M.astype(A.type.dtype))


@cache
def _register() -> None:
    """Let PyTensor see through the mark, and drop it; at first use, so that importing changes nothing."""

    @register_universal_assumption(SpecifyPreconditioner)
    def facts_of_the_matrix(key, op, feature, fgraph, node, input_states):
        return [input_states[0]]

    @register_specialize("fast_compile")
    @node_rewriter([SpecifyPreconditioner])
    def drop_preconditioner(fgraph, node):
        return [node.inputs[0]]
