"""What is put around a graph: OpFromGraph, Scan, ifelse, vectorize_graph.

`wrapper` takes all its decisions at once and returns a function from outputs to outputs, so that the outputs
of `autotune.tune` can be wrapped as the untuned ones were.
"""

import pytensor
import pytensor.tensor as pt
from pytensor.compile.builders import OpFromGraph
from pytensor.conditional.op import ifelse
from pytensor.graph.replace import clone_replace, vectorize_graph

from fuzz.generator import Input, Skip

NONE, FLOATS = 0.83, ("float32", "float64")


def wrapper(g, outs):
    """A function that wraps outputs, or None."""
    make = g.pick({None: NONE, **WRAPPERS})
    if make is None or any(i.shared for i in g.inputs):
        return None
    made = make(g, outs)
    if made is not None:
        g.tag(f"wrap:{make.__name__[1:]}")
        g.note(make.__name__[1:])
        g.all_thin = False
    return made


def _OpFromGraph(g, outs):
    inputs = [i.var for i in g.inputs]
    inline = g.chance(0.4)

    def wrap(outs):
        return _listed(OpFromGraph(inputs, outs, inline=inline, on_unused_input="ignore")(*inputs))

    return wrap


def _Scan(g, outs):
    """Two steps that scale one input and sum the first two outputs."""
    floats = [i.var for i in g.inputs if i.kind in ("positive", "normal") and i.var.dtype in FLOATS]
    if not floats or not any(o.dtype in FLOATS for o in outs):
        return None
    rest = [i.var for i in g.inputs]
    steps, target = g.input((2,), "positive", reuse=0), g.pick(floats)

    def wrap(outs):
        kept = [o for o in outs if o.dtype in FLOATS][:2]

        def step(t, *inner):
            given = dict(zip(rest, inner, strict=True))
            scaled = pt.specify_shape(given[target] * t.astype(target.dtype), target.type.shape)
            given[target] = scaled.astype(target.dtype)
            return [o.sum() for o in clone_replace(kept, given, rebuild_strict=False)]

        return _listed(pytensor.scan(step, sequences=[steps], non_sequences=rest, return_updates=False))

    return wrap


def _ifelse(g, outs):
    if outs[0].dtype not in FLOATS:
        return None
    c = g.input((), frozen=True, reuse=0)
    zero = g.chance(0.5) or len(outs) < 2 or outs[1].type != outs[0].type

    def wrap(outs):
        first = outs[0]
        other = pt.zeros_like(first) if zero else outs[1]
        try:
            return [ifelse(c > 0, first, other if other.type == first.type else first * 2), *outs[1:]]
        except TypeError:
            return outs

    return wrap


def _vectorize(g, outs):
    """A batch of two of one input."""
    floats = [i for i in g.inputs if i.var.type.numpy_dtype.kind == "f"]
    if not floats:
        return None
    one = g.pick(floats)
    batch = pt.tensor(f"batched_{len(g.inputs)}", shape=(2, *one.var.type.shape), dtype=one.var.type.dtype)

    def wrap(outs):
        return list(vectorize_graph(outs, {one.var: batch}))

    try:
        wrap(outs)
        g.solved = [vectorize_graph(s, {one.var: batch}) for s in g.solved]
    except Exception as error:
        raise Skip(f"vectorize_graph: {type(error).__name__}") from None
    g.inputs.append(Input(batch, (2, *one.dims), one.kind, one.scale, one.frozen))
    return wrap


WRAPPERS = {_OpFromGraph: 0.05, _Scan: 0.05, _ifelse: 0.03, _vectorize: 0.05}


def _listed(outs):
    return list(outs) if isinstance(outs, list | tuple) else [outs]
