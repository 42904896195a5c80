"""What every Op of this package shares: real floating-point work, and a Numba dispatch loaded when first
needed."""

from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from pytensor.graph.op import Op
from pytensor.tensor.basic import as_tensor_variable, cast
from pytensor.tensor.linalg.dtype_utils import linalg_output_dtype
from pytensor.tensor.variable import TensorVariable

DIRECT, LOW_RANK, ITERATIVE, BANDED, QUASISEPARABLE, TOEPLITZ, SPARSE = FAMILIES = (
    *("numba_dispatch", "numba_low_rank", "numba_iterative", "numba_banded", "numba_quasiseparable"),
    *("numba_toeplitz", "numba_sparse"),
)
"""The modules with the Numba implementations of the Ops."""


@cache
def ensure_numba_dispatch(family: str = DIRECT) -> bool:
    """Register the Numba implementations of one of `FAMILIES`, once; False where Numba is not installed.

    Importing them takes time, so it waits until such an Op is built or unpickled.
    """
    if find_spec("numba") is None:
        return False
    import_module(f"autotune.ops.{family}")
    return True


class Late:
    """A module of this package that is imported when something in it is first asked for.

    So an Op comes without its algorithm in Python, which compiled graphs do not run.
    """

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(f"autotune.ops.{self._name}"), name)


class Compiled(Late):
    """The same for an algorithm of loops, too slow in Python: each function as Numba compiles it, where that
    is installed. ``family``: the module that compiles it, in a function ``in_python``."""

    def __init__(self, name: str, family: str):
        super().__init__(name)
        self._family = family

    def __getattr__(self, name: str) -> Any:
        function = super().__getattr__(name)
        if not ensure_numba_dispatch(self._family):
            return function
        return import_module(f"autotune.ops.{self._family}").in_python(function)


def compile_all(dtype: str) -> None:
    """Compile what the Ops run under Numba for one dtype, into PyTensor's cache on disk."""
    if all(map(ensure_numba_dispatch, FAMILIES)):
        import_module("autotune.ops._by_address").compile_all(dtype)


@cache
def digest_of_sources() -> str:
    """Of this package: machine code cached on disk is found by it, so an edited algorithm never meets its old
    one."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def real_dtype(op: Op, *variables: TensorVariable) -> str:
    """The floating-point dtype LAPACK would use for all ``variables`` together.

    Raises TypeError for complex variables.
    """
    dtype = linalg_output_dtype(*(variable.type.dtype for variable in variables))
    if dtype.startswith("complex"):
        found = [variable.type.dtype for variable in variables]
        raise TypeError(f"{op} got dtypes {found}. It is defined for real matrices only.")
    return dtype


def as_real(op: Op, ndims: tuple[int, ...], *values) -> list[TensorVariable]:
    """``values`` as variables of one floating-point dtype; TypeError for another rank than ``ndims``."""
    variables = [as_tensor_variable(value) for value in values]
    check_ndims(op, ndims, variables)
    dtype = real_dtype(op, *variables)
    return [variable if variable.type.dtype == dtype else cast(variable, dtype) for variable in variables]


def check_ndims(op: Op, ndims: tuple[int, ...], variables: list[TensorVariable]) -> None:
    """TypeError unless ``variables`` have the ranks ``ndims``."""
    found = tuple(variable.type.ndim for variable in variables)
    if found != ndims:
        raise TypeError(f"{op} got inputs of {found} dimensions. It takes {ndims}.")


def merge_lengths(op: Op, *lengths: int | None) -> int | None:
    """The static length that all of ``lengths`` agree on, None if none is known; ValueError if they
    differ."""
    known = {length for length in lengths if length is not None}
    if len(known) > 1:
        raise ValueError(f"{op} got lengths {sorted(known)} for one dimension. They must be equal.")
    return known.pop() if known else None


def _rebuild(op_type: type["LinalgOp"], props: dict) -> Op:
    ensure_numba_dispatch(op_type.family)
    return op_type(**props)


class LinalgOp(Op):
    """An Op emitted after differentiation: it has no pullback, and its props are its constructor's
    arguments. ``family``: where its Numba implementation is."""

    family: ClassVar[str] = DIRECT

    def __reduce__(self):
        """Pickle by props, so that unpickling in a fresh process registers the Numba dispatch."""
        return _rebuild, (type(self), self._props_dict())
