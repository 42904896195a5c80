"""A program as a stand-alone Python script that prints PASS or FAIL with the right and the actual values."""

import base64
import os
import pickle
import pprint
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytensor.scalar as ps
from pytensor.assumptions.core import FactState
from pytensor.assumptions.specify import SpecifyAssumptions
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import toposort
from pytensor.tensor.basic import AllocDiag, ExtractDiag, Eye
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import Dot, Sum

TEMPLATE = '''\
"""Seed {seed} of the fuzzer, made small: {kind}.

{text}
"""

import base64
import logging
import os
import pickle
import signal
import tempfile

home = tempfile.mkdtemp()
os.environ.setdefault("PYTENSOR_FLAGS", f"cxx=,base_compiledir={{home}}/compiledir")
os.environ.update(AUTOTUNE_HOME=f"{{home}}/data", XDG_CONFIG_HOME=f"{{home}}/config")

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.assumptions import assume
from pytensor.compile.mode import Mode, get_mode
from pytensor.link.vm import VMLinker
from pytensor.tensor.linalg import cholesky, cho_solve, det, inv, slogdet, solve, solve_triangular

import autotune

base = {mode}
policy = {policy}


def op(text):
    """An Op that has no short name."""
    return pickle.loads(base64.b64decode(text))


def packed(text, dtype, shape):
    """An array of many numbers."""
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


{inputs}
{nodes}
inputs = [{names}]
values = [
{values}
]
outputs = [{outputs}]


def derived(outputs):
    {derived}


messages = []
handler = logging.Handler(level=logging.WARNING)
handler.emit = lambda record: messages.append(record.getMessage())
logging.getLogger("autotune").addHandler(handler)
logging.getLogger("pytensor").setLevel(logging.CRITICAL)


def answer(make):
    """The results of a function that is still to be compiled, or the error."""
    try:
        return [np.asarray(x) for x in make()(*[np.array(v) for v in values])]
    except Exception as error:
        return error


def compiled(outputs, mode):
    return pytensor.function(inputs, outputs, mode=mode, on_unused_input="ignore")


def tuned(policy):
    outs = autotune.tune(outputs, policy) if {tune} else outputs
    return compiled(derived(outs), autotune.mode(policy, base=base))


def over(*_):
    print("FAIL: still compiling or running after 120 s", flush=True)
    os._exit(1)


signal.signal(signal.SIGALRM, over)
signal.alarm(120)
np.seterr(all="ignore")
right, actual = answer(lambda: compiled(derived(outputs), base)), answer(lambda: tuned(policy))
if isinstance(right, Exception) or isinstance(actual, Exception):
    same = isinstance(right, Exception) and isinstance(actual, Exception)
else:
    same = all(
        r.shape == a.shape
        and r.dtype == a.dtype
        and np.allclose(a, r, 0, {rtol} * np.abs(r[np.isfinite(r)]).max(initial=0.0), equal_nan=True)
        for r, a in zip(right, actual)
    )
bad = [m for m in messages if "Prices come from" not in m and "profile" not in m]
if {pins}:
    autotune.explain(tuned(policy)).save(f"{{home}}/plan.yaml")
    both = [autotune.explain(tuned(p)) for p in (policy, f"{{home}}/plan.yaml")]
    plans = [[d.chosen for d in plan.decisions] for plan in both]
    print("chosen, and chosen with the saved plan:", *plans)
    same, bad = same and plans[0] == plans[1], [m for m in messages if "finds nothing" in m]
print("PASS" if same and not bad else "FAIL", {kind!r}, *bad)
print("   right ", right)
print("   actual", actual)
'''
MODES = {
    "py": 'Mode(linker="py", optimizer="fast_run").excluding("inplace", "fusion")',
    "vm": 'Mode(linker=VMLinker(use_cloop=False, c_thunks=False)).excluding("inplace", "fusion")',
    "numba": 'get_mode("NUMBA")',
}
MOST_NUMBERS = 100  # that are written out


def verified_script(program, seed, text, folder):
    """Write the script and run it; where its readable form passes, all Ops are pickled."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"seed_{seed}_{program.kind.replace(' ', '_')}.py"
    for readable in (True, False):
        path.write_text(script(program, seed, text, readable))
        done = subprocess.run([sys.executable, path], capture_output=True, text=True, env=_environment())
        if "FAIL" in done.stdout:
            return str(path)
    return f"{path} (which passes by itself: {done.stderr[-200:]})"


def _environment():
    return {k: v for k, v in os.environ.items() if k != "PYTENSOR_FLAGS"}


def script(program, seed, text, readable=True):
    """The text of the script."""
    names = {v: f"x{i}" for i, v in enumerate(program.variables)}
    inputs = [
        f'{names[v]} = pt.tensor("{names[v]}", shape={v.type.shape}, dtype="{v.type.dtype}")'
        for v in program.variables
    ]
    nodes = []
    for number, node in enumerate(toposort(list(program.values), blockers=list(program.variables))):
        made = [
            f"v{number}" if len(node.outputs) == 1 else f"v{number}_{i}" for i in range(len(node.outputs))
        ]
        names.update(zip(node.outputs, made, strict=True))
        args = [names[i] if i in names else literal(i) for i in node.inputs]
        nodes.append(f"{', '.join(made)} = {expression(node, args, readable)}")
    return TEMPLATE.format(
        seed=seed,
        kind=program.kind,
        text=text.replace("\\", "/").replace('"""', "'''")[:1500],
        mode=MODES[program.setting.linker],
        policy=pprint.pformat(program.policy, width=100),
        inputs="\n".join(inputs),
        nodes="\n".join(nodes),
        names=", ".join(names[v] for v in program.variables),
        values="\n".join(f"    {array(number)}," for number in program.numbers),
        outputs=", ".join(names[v] if v in names else literal(v) for v in program.values),
        derived=derivatives(program, names),
        tune=program.setting.door == "tune",
        pins=program.kind == "pins",
        rtol=1e-6 if program.kind != "accuracy" else max(50 * program.eps * program.condition, 1e-13),
    )


COMBINE = {
    "sum": "{}.sum()",
    "sqr": "0.5 * pt.sqr({}).sum()",
    "sin": "pt.sin({0} / (1 + abs({0}) / 1024)).sum()",
    "weighted": "({0}.ravel() * pt.cos(pt.arange({0}.size).astype({0}.dtype) + 0.5)).sum()",
    "first": "{}.ravel()[0]",
    "logabs": "pt.log(pt.abs({}).sum() + 1.0)",
}


def derivatives(program, names):
    """The body of the script's ``derived``."""
    if not program.combine:
        return "return outputs"
    pairs = zip(program.combine, program.values, strict=True)
    terms = []
    for i, (how, out) in enumerate(pairs):
        if out.type.numpy_dtype.kind == "f":
            scalar = how == "weighted" and out.ndim == 0
            terms.append(f"1.7 * outputs[{i}]" if scalar else COMBINE[how].format(f"outputs[{i}]"))
    if not terms:
        return "return outputs"
    wrt = ", ".join(names[v] for v in program.wrt)
    grads = f', *pt.grad(loss, [{wrt}], disconnected_inputs="ignore")' if wrt else ""
    return f"loss = {' + '.join(terms)}\n    return [*outputs, loss{grads}]"


# -- expressions -------------------------------------------------------------------------------------

SCALARS = {
    "Add": "add",
    "Mul": "mul",
    "Sub": "sub",
    "TrueDiv": "true_div",
    "Neg": "neg",
    "Sqr": "sqr",
    "Sqrt": "sqrt",
    "Exp": "exp",
    "Log": "log",
    "Abs": "abs",
    "Sin": "sin",
    "Cos": "cos",
    "Tanh": "tanh",
    "Sign": "sign",
    "Pow": "pow",
    "Switch": "switch",
    "Reciprocal": "reciprocal",
    "IsNan": "isnan",
    "EQ": "eq",
    "GT": "gt",
    "LT": "lt",
    "Second": "second",
}
LINALG = {
    "MatrixInverse": lambda op, a: f"inv({a[0]})",
    "Det": lambda op, a: f"det({a[0]})",
    "SLogDet": lambda op, a: f"slogdet({a[0]})",
    "Cholesky": lambda op, a: f"cholesky({a[0]}, lower={op.lower})",
    "Solve": lambda op, a: (
        f'solve({a[0]}, {a[1]}, assume_a="{op.assume_a}", lower={op.lower}, b_ndim={op.b_ndim})'
    ),
    "SolveTriangular": lambda op, a: (
        f"solve_triangular({a[0]}, {a[1]}, lower={op.lower}, "
        f"unit_diagonal={op.unit_diagonal}, b_ndim={op.b_ndim})"
    ),
    "CholeskySolve": lambda op, a: f"cho_solve(({a[0]}, {op.lower}), {a[1]}, b_ndim={op.b_ndim})",
    "Dot": lambda op, a: f"pt.matmul({a[0]}, {a[1]})",
}


def expression(node, args, readable):
    """The call that makes a node: by name where there is one, otherwise by the pickled Op."""
    named = _named(node, args) if readable else None
    if named is None:
        named = f'op("{base64.b64encode(pickle.dumps(node.op)).decode()}")({", ".join(args)})'
    return named


def _named(node, args):
    op = node.op
    if isinstance(op, Elemwise):
        if isinstance(op.scalar_op, ps.Cast):
            return f'pt.cast({args[0]}, "{node.outputs[0].type.dtype}")'
        name = SCALARS.get(type(op.scalar_op).__name__)
        return f"pt.{name}({', '.join(args)})" if name else None
    if isinstance(op, DimShuffle):
        return f"{args[0]}.dimshuffle({', '.join(map(repr, op.new_order))})"
    if isinstance(op, Dot):
        return f"pt.dot({args[0]}, {args[1]})"
    if isinstance(op, Sum):
        return f"pt.sum({args[0]}, axis={None if op.axis is None else tuple(op.axis)})"
    if isinstance(op, Eye):
        return f'pt.eye({", ".join(args)}, dtype="{op.dtype}")'
    if isinstance(op, AllocDiag) and node.inputs[0].ndim == 1 and op.offset == 0:
        return f"pt.diag({args[0]})"
    if isinstance(op, ExtractDiag):
        return f"pt.diagonal({args[0]}, {op.offset}, {op.axis1}, {op.axis2})"
    if isinstance(op, SpecifyAssumptions) and all(state is FactState.TRUE for _, state in op.assumptions):
        return f"assume({args[0]}, {', '.join(f'{fact.name}=True' for fact, _ in op.assumptions)})"
    core = op.core_op if isinstance(op, Blockwise) else op
    name = type(core).__name__
    return LINALG[name](core, args) if name in LINALG else None


def literal(variable):
    """A constant as text."""
    if not isinstance(variable, Constant):
        raise ValueError(f"{variable} is neither an input nor a constant")
    data = variable.data
    if isinstance(data, np.ndarray):
        return f"pt.constant({array(data)})"
    return f'op("{base64.b64encode(pickle.dumps(variable)).decode()}")'


def array(number):
    """An array as text, exactly."""
    number = np.asarray(number)
    if number.size > MOST_NUMBERS or not number.size:
        text = base64.b64encode(number.tobytes()).decode()
        return f'packed("{text}", "{number.dtype}", {number.shape})'
    text = repr(number.tolist()).replace("nan", "np.nan").replace("inf", "np.inf")
    return f'np.array({text}, dtype="{number.dtype}")'
