"""The value of a raw graph in long double (64 bits of mantissa on x86), by NumPy and `long_double`.

An Op that is not known here is performed in the graph's own precision.
"""

import numpy as np
import pytensor
import pytensor.scalar as ps
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.mode import Mode
from pytensor.conditional.op import IfElse
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import toposort
from pytensor.tensor.basic import Alloc, AllocDiag, ExtractDiag, Eye, Join
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import Dot, Prod, Sum
from pytensor.tensor.shape import Reshape

from fuzz import long_double
from fuzz.long_double import LD

# Ops that perform on any dtype, and Ops that hand on their first input, by name.
ANY_DTYPE = {
    "Subtensor",
    "IncSubtensor",
    "AdvancedSubtensor",
    "AdvancedSubtensor1",
    "AdvancedIncSubtensor",
    "AdvancedIncSubtensor1",
    "FillDiagonal",
    "MakeVector",
    "ARange",
    "Shape",
    "Shape_i",
    "Split",
    "Unbroadcast",
}
IDENTITIES = {
    "SpecifyShape",
    "SpecifyAssumptions",
    "CopyOnNegativeStrides",
    "DeepCopyOp",
    "ViewOp",
    "TensorFromScalar",
    "ScalarFromTensor",
    "DisconnectedGrad",
}


def evaluate(inputs, outputs, values, shared=None):
    """Values of ``outputs``; ``shared`` maps shared variables to values."""
    given = {var: up(value) for var, value in zip(inputs, values, strict=True)}
    given.update({var: up(value) for var, value in (shared or {}).items()})
    with np.errstate(all="ignore"):
        return run(given, outputs)


def run(values, outputs):
    """Walk the graph; ``values`` maps variables to arrays and is added to."""
    values = dict(values)
    for node in toposort(outputs, blockers=list(values)):
        if any(out not in values for out in node.outputs):
            args = [value_of(i, values) for i in node.inputs]
            results = apply(node, args)
            values.update(zip(node.outputs, map(as_array, results), strict=True))
    return [value_of(out, values) for out in outputs]


def value_of(variable, values):
    if variable in values:
        return values[variable]
    if isinstance(variable, Constant):
        numeric = isinstance(variable.data, np.ndarray | np.generic | float | int)
        return up(variable.data) if numeric else variable.data
    if hasattr(variable, "get_value"):
        return up(variable.get_value())
    raise ValueError(f"no value for {variable}")


def as_array(x):
    return np.asarray(x) if isinstance(x, np.ndarray | np.generic) else x


def up(x):
    """In long double, integers as they are."""
    x = np.asarray(x)
    return x.astype({"f": LD, "c": np.clongdouble}.get(x.dtype.kind, x.dtype))


def apply(node, args):
    """The results of one node."""
    op, name = node.op, type(node.op).__name__
    found = None
    if name in IDENTITIES:
        return [args[0]]
    for kind, how in APPLY.items():
        if isinstance(op, kind):
            found = how(op, node, args)
            break
    else:
        if name == "KroneckerProduct":
            return [np.kron(*args)]
        found = long_double.core(op, args)
        if name in ANY_DTYPE:
            found = attempt(lambda: perform(node, args))
    if found is not None:
        return found
    low = [
        np.asarray(a).astype(i.type.dtype) if hasattr(i.type, "dtype") and a is not None else a
        for a, i in zip(args, node.inputs, strict=True)
    ]
    return [up(x) for x in perform(node, low)]


def attempt(thunk):
    try:
        return thunk()
    except Exception:  # the Op's own implementation does not take long doubles
        return None


def perform(node, args):
    """The Op's own Python implementation, or a function compiled of it."""
    op = node.op
    if hasattr(op, "prepare_node"):
        op.prepare_node(node, None, None, "py")
    storage = [[None] for _ in node.outputs]
    try:
        op.perform(node, list(args), storage)
    except (NotImplementedError, AttributeError, TypeError):
        inputs = [i.type() for i in node.inputs]
        outputs = op(*inputs, return_list=True)
        fn = pytensor.function(inputs, outputs, mode=Mode("py", optimizer=None), on_unused_input="ignore")
        return [np.asarray(x) for x in fn(*args)]
    return [cell[0] for cell in storage]


# -- Ops ---------------------------------------------------------------------------------------------


def _real(x):
    return x if x.dtype.kind == "c" else x.astype(LD)


def _in_long_double(f):
    return lambda *args: f(*map(_real, args))


def _folded(f):
    def fold(first, *rest):
        for x in rest:
            first = f(first, x)
        return first

    return fold


SCALARS = {
    "Add": _folded(np.add),
    "Mul": _folded(np.multiply),
    "Sub": np.subtract,
    "Neg": np.negative,
    "TrueDiv": _in_long_double(np.true_divide),
    "Reciprocal": _in_long_double(np.reciprocal),
    "Sqr": np.square,
    "Sqrt": _in_long_double(np.sqrt),
    "Exp": _in_long_double(np.exp),
    "Log": _in_long_double(np.log),
    "Log1p": _in_long_double(np.log1p),
    "Abs": np.abs,
    "Sin": _in_long_double(np.sin),
    "Cos": _in_long_double(np.cos),
    "Tanh": _in_long_double(np.tanh),
    "Sigmoid": _in_long_double(lambda x: 1 / (1 + np.exp(-x))),
    "Softplus": _in_long_double(lambda x: np.logaddexp(LD(0), x)),
    "Sign": np.sign,
    "Switch": np.where,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "ScalarMaximum": np.maximum,
    "ScalarMinimum": np.minimum,
    "Second": lambda like, x: np.broadcast_to(x, np.broadcast_shapes(like.shape, x.shape)),
    "Identity": lambda x: x,
    "EQ": np.equal,
    "NEQ": np.not_equal,
    "GT": np.greater,
    "LT": np.less,
    "GE": np.greater_equal,
    "LE": np.less_equal,
    "IsNan": np.isnan,
    "Real": np.real,
}


def _elemwise(op, node, args):
    scalar, out = op.scalar_op, node.outputs[0].type.numpy_dtype
    if isinstance(scalar, ps.Cast):
        return [
            args[0]
            if out.kind == args[0].dtype.kind == "f"
            else args[0].astype(LD if out.kind == "f" else out)
        ]
    if isinstance(scalar, ps.Pow):
        args = [_real(a) for a in args] if out.kind == "f" else args
        found = np.power(*args)
    elif type(scalar).__name__ in SCALARS:
        found = SCALARS[type(scalar).__name__](*args)
    else:
        return None
    found = np.asarray(found)
    if out.kind == "f" and found.dtype.kind in "iub":
        return [found.astype(LD)]
    return [found.astype(out) if out.kind in "iub" and found.dtype != out else found]


def _dimshuffle(op, node, args):
    x, kept = args[0], [axis for axis in op.new_order if axis != "x"]
    dropped = [axis for axis in range(x.ndim) if axis not in kept]
    moved = x.transpose(kept + dropped).reshape([x.shape[axis] for axis in kept])
    return [moved[tuple(None if axis == "x" else slice(None) for axis in op.new_order)]]


def _reduced(op, node, args):
    floats = node.outputs[0].type.numpy_dtype.kind == "f"
    x = _real(args[0]) if floats else args[0]
    return [(np.sum if isinstance(op, Sum) else np.prod)(x, axis=None if op.axis is None else tuple(op.axis))]


def _dot(op, node, args):
    a, b = map(_real, args) if node.outputs[0].type.numpy_dtype.kind == "f" else args
    return [a @ b if a.ndim and b.ndim else a * b]


def _if_else(op, node, args):
    return list(args[1 : 1 + op.n_outs] if bool(args[0]) else args[1 + op.n_outs :])


def _from_graph(op, node, args):
    return run(dict(zip(op.fgraph.inputs, args, strict=True)), op.fgraph.outputs)


APPLY = {
    Elemwise: _elemwise,
    Blockwise: lambda op, node, args: long_double.blockwise(op, args),
    OpFromGraph: _from_graph,
    DimShuffle: _dimshuffle,
    Sum: _reduced,
    Prod: _reduced,
    Dot: _dot,
    Eye: lambda op, node, args: [up(np.eye(*map(int, args), dtype=op.dtype))],
    Alloc: lambda op, node, args: [np.broadcast_to(args[0], tuple(map(int, args[1:]))).copy()],
    ExtractDiag: lambda op, node, args: [np.diagonal(args[0], op.offset, op.axis1, op.axis2)],
    AllocDiag: lambda op, node, args: [np.diag(args[0], op.offset)] if args[0].ndim == 1 else None,
    Join: lambda op, node, args: [np.concatenate(args, axis=op.axis)],
    IfElse: _if_else,
    Reshape: lambda op, node, args: [args[0].reshape(tuple(map(int, args[1])))],
}
