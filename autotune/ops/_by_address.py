"""Functions that are compiled once for each dtype and machine, and called by the address of their code.

Numba links what a function calls into it, and LLVM inlines and optimises it there again: in our function, in
PyTensor's wrapper of it, in the graph. What is called by address is compiled for one signature, on its first
call (what never runs is never compiled), and kept on disk; its callers stay small.

Code on disk must hold no address. So it asks for one, once in each process, by a symbol: a function in Python
that compiles, or loads from disk, and returns the address. Symbols are there as soon as this package's
Numba modules are imported, which building or unpickling an Op does.
"""

import ctypes
import traceback
from collections.abc import Callable
from functools import cache, partial
from hashlib import sha256
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic
from numba.core.imputils import impl_ret_new_ref
from pytensor import config
from pytensor.link.numba.cache import CACHED_SRC_FUNCTIONS, compile_numba_function_src

from autotune.ops._base import digest_of_sources

# Goes into the key of PyTensor's cache on disk: an edited algorithm never meets its old machine code.
VERSION = int(digest_of_sources()[:12], 16)
FLOATS = (types.float64, types.float32)
NOT_COMPILED = "A function of autotune could not be compiled. What went wrong is on stderr."
VOID_POINTER = ir.PointerType(ir.IntType(8))

# C functions that compiled code calls, to be kept as long as the process lives; and what compiles everything.
_finders: list[Any] = []
_compilers: list[Callable[[types.Type], Any]] = []
_in_python: dict[Callable, Callable[[types.Type], Any]] = {}


def readable(T, ndim):
    """Any array, only to be read: every layout converts to it."""
    return types.Array(T, ndim, "A", readonly=True)


def readable_c(T, ndim):
    """A C-contiguous array, only to be read."""
    return types.Array(T, ndim, "C", readonly=True)


def c_array(T, ndim):
    return types.Array(T, ndim, "C")


def compiled(function, signature, **options):
    """``function`` for one signature, from this PyTensor's cache on disk if it is there.

    By NumPy's rules of arithmetic: a division by zero is infinite.
    """
    CACHED_SRC_FUNCTIONS.setdefault(function, f"{digest_of_sources()}.{function.__module__}")
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "error_model": "numpy"} | options
    return numba.njit(signature, cache=config.numba__cache, **options)(function)


def by_address(function, signature, **options):
    """What jitted code calls in place of ``function``, whose signature for numbers of type T is
    ``signature(T)``.

    T is the dtype of the first argument that is an array of floating-point numbers.
    """
    return caller(function, signature, compiled_once(function, signature, **options))


def in_python_too(function, signature):
    """The same of what Python calls as well, see `in_python`."""
    compile_once = _in_python[function] = compiled_once(function, signature, no_cpython_wrapper=False)
    return caller(function, signature, compile_once)


def in_python(function):
    """``function`` as it was compiled, to be called from Python; an array of the dtype comes first."""
    return partial(_call_compiled, _in_python[function])


def _call_compiled(compile_once, *arguments):
    return compile_once(numba.from_dtype(arguments[0].dtype))(*arguments)


def python_by_address(function, signature):
    """The same for a function that stays Python: rare cases, and what is not worth compiling."""

    def packed(T):
        declared = signature(T)
        return declared.return_type(types.Tuple(declared.args))

    return caller(function, packed, cache(lambda T: _in_object_mode(function, packed(T))))


def _in_object_mode(function, signature):
    returned = signature.return_type

    @numba.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def in_object_mode(arguments):
        with numba.objmode(result=returned):
            result = function(*arguments)
        return result

    # A function with a closure is not found on disk: the types in it are numbered anew in each process.
    outer = compile_numba_function_src(
        "def outer(arguments): return in_object_mode(arguments)",
        "outer",
        {"in_object_mode": in_object_mode, "__name__": __name__},
        cache_key=f"{digest_of_sources()}.{_name(function)}",
    )
    return compiled(outer, signature)


def _name(function):
    return f"{function.__module__}.{function.__qualname__}"


def compiled_once(function, signature, **options):
    """``function`` compiled for numbers of a type when it is first asked for."""
    compile_once = cache(lambda T: compiled(function, signature(T), **options))
    _compilers.append(compile_once)
    return compile_once


def caller(function, signature, compile_once, emit=None):
    """What jitted code calls: ``emit``, by default a plain call, writes the code there."""
    emit = emit or _call

    def symbol(T):
        return f"autotune.{_name(function)}.{sha256(str(signature(T)).encode()).hexdigest()[:16]}"

    for T in FLOATS:
        _register(symbol(T), lambda T=T: _address(compile_once(T)))

    @intrinsic
    def call(typing_context, *arguments):
        arrays = (x.dtype for x in arguments if isinstance(x, types.Array))
        T = next(dtype for dtype in arrays if isinstance(dtype, types.Float))
        declared = signature(T)
        packed = len(declared.args) == 1 and isinstance(declared.args[0], types.BaseTuple)
        taken = types.StarArgTuple(tuple(declared.args[0]) if packed else declared.args)

        def codegen(context, builder, signature, args):
            values = cgutils.unpack_tuple(builder, args[0])
            if packed:
                values = [context.make_tuple(builder, declared.args[0], values)]
            return emit(context, builder, symbol(T), declared, values)

        return declared.return_type(taken), codegen

    return call


def compile_all(dtype):
    """Compile for numbers of a dtype what does not stay Python."""
    for compile_once in _compilers:
        compile_once(numba.from_dtype(np.dtype(dtype)))


def _address(dispatcher):
    [result] = dispatcher.overloads.values()
    return result.library.get_pointer_to_function(result.fndesc.llvm_func_name)


def _register(symbol, find):
    @ctypes.CFUNCTYPE(ctypes.c_void_p)
    def finder():
        try:
            return find()
        except BaseException:  # what leaves a C function is lost, and its result is then any number
            traceback.print_exc()
            return None

    _finders.append(finder)
    llvmlite.binding.add_symbol(symbol, ctypes.cast(finder, ctypes.c_void_p).value)


def _call(context, builder, symbol, declared, values):
    """Code that calls by Numba's own convention, exceptions and counts of references included."""
    status, result = call_found(context, builder, found_address(context, builder, symbol), declared, values)
    with cgutils.if_unlikely(builder, status.is_error):
        context.call_conv.return_status_propagate(builder, status)
    return impl_ret_new_ref(context, builder, declared.return_type, result)


def call_found(context, builder, address, declared, values):
    """Status and result of calling what stands at an address."""
    convention = context.call_conv
    function_type = convention.get_function_type(declared.return_type, declared.args)
    function = builder.bitcast(address, function_type.as_pointer())
    return convention.call_function(builder, function, declared.return_type, declared.args, values)


def found_address(context, builder, symbol):
    """Code that asks for the address where this module has not done so yet; an error if there is none."""
    address = _known_address(builder, symbol)
    with cgutils.if_unlikely(builder, cgutils.is_null(builder, address)):
        context.call_conv.return_user_exc(builder, RuntimeError, (NOT_COMPILED,))
    return address


def _known_address(builder, symbol):
    known = cgutils.add_global_variable(builder.module, VOID_POINTER, f"{symbol}.address")
    known.linkage, known.initializer = "private", VOID_POINTER(None)
    address = cgutils.alloca_once_value(builder, builder.load(known))
    with cgutils.if_unlikely(builder, cgutils.is_null(builder, builder.load(address))):
        finder = cgutils.get_or_insert_function(builder.module, ir.FunctionType(VOID_POINTER, []), symbol)
        found = builder.call(finder, [])
        builder.store(found, known)
        builder.store(found, address)
    return builder.load(address)
