"""Which variables are nowhere negative by the way they are computed: an assumption like PyTensor's own.

``NONNEGATIVE`` is inferred forward through what priors and transforms are made of, and is TRUE, FALSE (of
constants) or UNKNOWN. NaN counts as not negative.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytensor.scalar as ps
from pytensor.assumptions.core import (
    KEY_REGISTRY,
    AssumptionFeature,
    AssumptionKey,
    FactState,
    all_inputs_have_key,
    propagate_first,
    register_assumption,
    register_constant_inference,
    true_if,
)
from pytensor.graph.basic import Constant
from pytensor.tensor.basic import Alloc, ExtractDiag, Join, MakeVector, ScalarFromTensor, TensorFromScalar
from pytensor.tensor.elemwise import CAReduce, DimShuffle, Elemwise
from pytensor.tensor.shape import Reshape, Shape, Shape_i, SpecifyShape
from pytensor.tensor.special import Softmax
from pytensor.tensor.subtensor import AdvancedSubtensor, Subtensor

from autotune.algebra.host import is_provably_nonnegative

NONNEGATIVE = KEY_REGISTRY.get("nonnegative") or AssumptionKey("nonnegative", short_name=">=0")

# Of operands that are nowhere negative the result is not negative.
KEEP = (
    *(ps.Add, ps.Mul, ps.TrueDiv, ps.ScalarMinimum, ps.Sqrt, ps.Log1p, ps.Expm1, ps.Tanh, ps.Sinh),
    *(ps.ArcTan, ps.ArcSinh, ps.Erf, ps.Floor, ps.Ceil, ps.Trunc, ps.Identity, ps.Cast, ps.Reciprocal),
)
# Whatever the operand, the result is not negative.
MAKE = (ps.Exp, ps.Exp2, ps.Sqr, ps.Abs, ps.Sigmoid, ps.Softplus, ps.Cosh, ps.Erfc)


def is_nonnegative(var) -> bool:
    """Whether ``var >= 0`` is proven."""
    known = getattr(var.tag, "autotune_nonnegative", None)
    if known is None:
        feature = AssumptionFeature()
        feature.on_attach(SimpleNamespace(clients={}))
        known = var.tag.autotune_nonnegative = feature.check(var, NONNEGATIVE)
    return known


@register_assumption(NONNEGATIVE, Elemwise)
def _elementwise(key, op, feature, fgraph, node, input_states):
    """By the scalar Op; integers may wrap around."""
    [out], inputs, scalar_op = node.outputs, node.inputs, op.scalar_op
    if out.type.numpy_dtype.kind != "f":
        return true_if(out.type.dtype == "bool" or is_provably_nonnegative(out))
    states = [state is FactState.TRUE for state in input_states]
    match scalar_op:
        case ps.Mul():
            squared = [sum(i is other for other in inputs) % 2 == 0 for i in inputs]
            return true_if(all(map(any, zip(states, squared, strict=True))))
        case ps.Pow():
            exponent = strip_broadcast(inputs[1])
            return true_if(states[0] or (isinstance(exponent, Constant) and np.all(exponent.data % 2 == 0)))
        case ps.ScalarMaximum():
            return true_if(any(states))
        case ps.Switch() | ps.Second():
            return true_if(all(states[1:]))
    return true_if(isinstance(scalar_op, MAKE) or (isinstance(scalar_op, KEEP) and all(states)))


def strip_broadcast(var):
    """What a view adds axes to."""
    while isinstance(var.owner_op, DimShuffle):
        var = var.owner.inputs[0]
    return var


@register_assumption(NONNEGATIVE, CAReduce)
def _reduction(key, op, feature, fgraph, node, input_states):
    """Sums, products and extrema, of floats."""
    return true_if(node.outputs[0].type.numpy_dtype.kind == "f" and input_states[0] is FactState.TRUE)


@register_assumption(NONNEGATIVE, Softmax, Shape, Shape_i)
def _always(key, op, feature, fgraph, node, input_states):
    return [FactState.TRUE]


VIEWS = (Alloc, DimShuffle, Reshape, SpecifyShape, Subtensor, AdvancedSubtensor, ExtractDiag)
register_assumption(NONNEGATIVE, *VIEWS, ScalarFromTensor, TensorFromScalar)(propagate_first)
register_assumption(NONNEGATIVE, MakeVector, Join)(all_inputs_have_key)
register_constant_inference(
    NONNEGATIVE, lambda var: FactState.FALSE if np.any(np.less(var.data, 0)) else FactState.TRUE
)
