"""What is known of the sign of a variable."""

from __future__ import annotations

from autotune.algebra.host import is_provably_nonnegative, is_provably_positive


def is_nonnegative(var) -> bool:
    """Whether ``var >= 0`` is provable, products of provable factors included."""
    if is_provably_nonnegative(var) or is_provably_positive(var):
        return True
    node = var.owner
    if node is None:
        return False
    name = type(getattr(node.op, "scalar_op", node.op)).__name__
    if name in ("Mul", "TrueDiv", "Add", "Join", "Second"):
        values = node.inputs[1:] if name in ("Join", "Second") else node.inputs
        return all(is_nonnegative(i) for i in values)
    if name == "Pow":
        exponent = getattr(node.inputs[1], "data", None)
        return exponent is not None and bool((exponent % 2 == 0).all())
    if name in ("Alloc", "Reshape", "DimShuffle"):
        return is_nonnegative(node.inputs[0])
    return False
