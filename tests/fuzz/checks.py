"""What is checked of a compiled function beside its values: messages, plan, pins, pickling, arrays."""

import os
import pickle
import tempfile

import autotune
from fuzz.compiling import tuned_function
from fuzz.judge import Fault
from fuzz.watching import Cycle, Hang, limit

HARMLESS = ("Prices come from", "profile")
LEFT = "left the graph"


def messages(records):
    """An internal error, or a message where none is due."""
    faults = []
    for text in records.texts:
        if LEFT in text:
            faults.append(Fault("internal error", "\n".join([text, *records.traces])[-2500:]))
        elif not any(harmless in text for harmless in HARMLESS):
            faults.append(Fault("message", text))
    return faults


def mixed(case, setting):
    """Whether gradients may have another precision: after `tune` that of what they are by, as elsewhere in
    PyTensor; its matrix products and solves give the higher one of their inputs."""
    return setting.door == "tune" and "float32" in case.used_dtypes


def types(case, setting, fn):
    """Compiled outputs have the dtype and the number of dimensions that they had."""
    free = ("float32", "float64") if mixed(case, setting) else ()
    pairs = zip(case.outputs, fn.maker.fgraph.outputs, strict=True)
    return [
        Fault("type", f"output {i}: {old.type} became {new.type}")
        for i, (old, new) in enumerate(pairs)
        if old.type.ndim != new.type.ndim
        or (old.type.dtype != new.type.dtype and not {old.type.dtype, new.type.dtype} <= set(free))
    ]


def decisions(explained):
    return [*explained.decisions, *(d for inner in explained.inner for d in inner.decisions)]


def choices(explained):
    """What was chosen in a graph and in the graphs inside, which PyTensor compiles in no fixed order."""
    inner = sorted([d.chosen for d in inside.decisions] for inside in explained.inner)
    return [[d.chosen for d in explained.decisions], *inner]


def explanation(fn):
    """The plan of a function as text and JSON, None where these fail, and faults."""
    try:
        explained = autotune.explain(fn)
        assert str(explained)
        explained.to_json()
    except Exception as error:
        return None, [Fault("explain", f"{type(error).__name__}: {error}")]
    return explained, [Fault("internal error", explained.failure)] if explained.failure else []


def saved_pins(case, setting, explained, records, seconds):
    """A saved plan compiles again to the same choices: that function (None if it does not) and faults."""
    wanted = choices(explained)
    descriptor, path = tempfile.mkstemp(suffix=".yaml")
    os.close(descriptor)
    records.clear()
    try:
        with limit(seconds):
            explained.save(path)
            # `enable` protects less of a graph that gets few rewrites: there a plan is one of its door
            door = setting.door if setting.rewrites == "fast_compile" else "mode"
            fn = tuned_function(case, setting, path, door=door)
        names = choices(autotune.explain(fn))
    except (Cycle, Hang) as error:
        return None, [Fault("pins", f"compiling again: {type(error).__name__}")]
    except Exception as error:
        return None, [Fault("pins", f"compiling again: {type(error).__name__}: {str(error)[:800]}")]
    finally:
        os.unlink(path)
    faults = [Fault("pins", t) for t in records.texts if "finds nothing" in t or LEFT in t]
    if names != wanted:
        faults.append(Fault("pins", f"the pinned plan chose {names}, the plan was {wanted}"))
    return fn, faults


def pickled(fn, plain):
    """The function after pickling (itself where plain PyTensor's cannot be pickled) and faults."""
    try:
        return pickle.loads(pickle.dumps(fn)), []
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(plain.compiled))
        except Exception:
            return fn, []
        return fn, [Fault("pickle", f"{type(error).__name__}: {str(error)[:500]}")]


THIN_VALUES = {
    "solve",
    "logdet",
    "inv@y",
    "y@inv",
    "y@inv@y",
    "quadratic form",
    "log-density",
    "log|det|",
    "quadratic forms",
}
THIN_WITHOUT_GRADIENT = THIN_VALUES | {"trace(inv)", "diag(inv)"}


def square_arrays(case, setting, fn, chosen):
    """Where Woodbury serves all there is, and only thin things are asked, no n x n array is made.

    Not of two precisions: the gradient of a sum is rounded to that of each term as the matrix that it is.
    """
    g = case.g
    asked = THIN_VALUES if case.derivatives else THIN_WITHOUT_GRADIENT
    n = g.dims["n"]
    told_apart = n >= 5 and list(g.dims.values()).count(n) == 1 and g.modes["n"] != "unknown"
    thin = g.all_thin and set(g.requests) <= asked and not any(i.dims.count("n") > 1 for i in g.inputs)
    higher = case.derivatives and (case.derivatives.hvp or case.derivatives.jacobian)
    one_precision = len({"float32", "float64"} & case.used_dtypes) == 1
    served = told_apart and thin and one_precision and set(chosen) == {"woodbury"}
    if not served or higher or setting.rewrites != "full":
        return []
    g.tag("checked for n x n arrays")
    made = [
        str(node.op)[:60]
        for node in fn.maker.fgraph.toposort()
        for out in node.outputs
        if getattr(out.type, "shape", ())[-2:] == (n, n)
    ]
    return [Fault("n x n", f"{len(made)} arrays: {made[:8]}, asked {g.requests}")] if made else []
