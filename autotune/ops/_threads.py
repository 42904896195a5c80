"""Loops over independent steps in several threads, called by address as in `_by_address`.

Threads are made for a call and joined at its end: none is left that a fork would lose, or that two callers
could wait for. There are as many as SciPy's BLAS may use, so that what limits one limits both, and each has
work that is worth the 20 us it takes to make one. Results do not depend on their number.
"""

import ctypes
import traceback

import llvmlite.binding
import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic, register_jitable

from autotune.ops._by_address import VOID_POINTER, call_found, caller, compiled_once, found_address
from cost_models import fingerprint

MOST_THREADS = 64
LEAST_WORK = 300_000
"""Floating-point operations that are worth a thread."""
INT32, INT64 = ir.IntType(32), ir.IntType(64)
RUN = ir.FunctionType(VOID_POINTER, [VOID_POINTER])


def _pthread(name):
    try:
        return ctypes.cast(ctypes.CDLL(None)[name], ctypes.c_void_p).value
    except (AttributeError, OSError, TypeError):  # Windows has none
        return None


PTHREADS = {name: _pthread(name) for name in ("pthread_create", "pthread_join")}


@ctypes.CFUNCTYPE(ctypes.c_int32)
def _allowed():
    """As many as SciPy's BLAS may use at this moment."""
    try:
        if None in PTHREADS.values():
            return 1
        return min(fingerprint().threads, numba.config.NUMBA_NUM_THREADS, MOST_THREADS)
    except BaseException:  # what leaves a C function is lost, and its result is then any number
        traceback.print_exc()
        return 1


for _name, _address in {"threads": None, **PTHREADS}.items():
    llvmlite.binding.add_symbol(f"autotune.{_name}", _address or ctypes.cast(_allowed, ctypes.c_void_p).value)


def _function(module, name, *arguments):
    return cgutils.get_or_insert_function(module, ir.FunctionType(INT32, arguments), f"autotune.{name}")


@intrinsic
def _allowed_threads(typing_context):
    def codegen(context, builder, signature, args):
        return builder.sext(builder.call(_function(builder.module, "threads"), []), INT64)

    return types.int64(), codegen


@register_jitable
def parts_of(count, work):
    """Into how many parts to cut ``count`` steps of ``work`` floating-point operations each."""
    worthwhile = min(count, int(count * work / LEAST_WORK))
    return min(worthwhile, _allowed_threads()) if worthwhile > 1 else 1


def in_parts(function, signature, **options):
    """What jitted code calls as ``loop(count, parts, ...)`` for ``function(start, stop, ...)``, a loop whose
    steps are independent.

    It may neither raise nor call by address: finding one needs Python, which the caller holds meanwhile.
    """
    return caller(function, signature, compiled_once(function, signature, **options), _run_in_parts)


def _run_in_parts(context, builder, symbol, declared, values):
    count, parts, *shared = values
    pointer = context.call_conv.get_function_type(declared.return_type, declared.args).as_pointer()
    address = builder.bitcast(found_address(context, builder, symbol), pointer)
    part = ir.LiteralStructType([INT64, INT64, pointer, *(value.type for value in shared)])
    run = _run_of(context, builder.module, f"{symbol}.part", part, declared)
    tasks, threads, refused = (
        cgutils.alloca_once(builder, kind, size=MOST_THREADS) for kind in (part, INT64, INT32)
    )
    create = _function(
        builder.module, "pthread_create", INT64.as_pointer(), VOID_POINTER, RUN.as_pointer(), VOID_POINTER
    )
    join = _function(builder.module, "pthread_join", INT64, VOID_POINTER)
    one, nothing = INT64(1), VOID_POINTER(None)

    def run_here(number):
        builder.call(run, [builder.bitcast(builder.gep(tasks, [number]), VOID_POINTER)])

    with cgutils.for_range(builder, parts) as step:
        start, stop = (
            builder.sdiv(builder.mul(count, number), parts)
            for number in (step.index, builder.add(step.index, one))
        )
        task = builder.gep(tasks, [step.index])
        for place, value in enumerate((start, stop, address, *shared)):
            builder.store(value, cgutils.gep_inbounds(builder, task, 0, place))
    with cgutils.for_range(builder, parts, start=one) as step:
        thread, task = builder.gep(threads, [step.index]), builder.gep(tasks, [step.index])
        outcome = builder.call(create, [thread, nothing, run, builder.bitcast(task, VOID_POINTER)])
        builder.store(outcome, builder.gep(refused, [step.index]))
    run_here(INT64(0))
    with cgutils.for_range(builder, parts, start=one) as step:
        runs = cgutils.is_null(builder, builder.load(builder.gep(refused, [step.index])))
        with builder.if_else(runs) as (then, otherwise):
            with then:
                builder.call(join, [builder.load(builder.gep(threads, [step.index])), nothing])
            with otherwise:
                run_here(step.index)
    return context.get_dummy_value()


def _run_of(context, module, name, part, declared):
    """What a thread runs, given the address of its part."""
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, RUN, name)
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    given = builder.bitcast(function.args[0], part.as_pointer())
    start, stop, address, *shared = (
        builder.load(cgutils.gep_inbounds(builder, given, 0, place)) for place in range(len(part.elements))
    )
    call_found(context, builder, address, declared, [start, stop, *shared])
    builder.ret(VOID_POINTER(None))
    return function
