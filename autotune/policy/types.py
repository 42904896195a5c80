"""The types of a policy's values: what is read as a number, a size or one of several names.

Each converts what a YAML file or Python may give, and states the same for the JSON schema.
"""

import math
import operator
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from autotune.policy.names import REQUESTS, STRUCTURES, OneOf, shown, strategy_names

# NumPy's largest index: no array is larger.
LARGEST = 2**63 - 1
# Double precision cannot tell a smaller relative error from none.
LEAST_ERROR = 1e-16
# Seconds: more than a day of timing is a mistake.
LONGEST = 86400.0

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_TIMES = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_MEMORY = r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*((?:[kKmMgGtT][iI]?)?)[bB]\s*"
_DURATION = r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(ms|s|min|h)\s*"
_DIMENSION = r"[^\[\]]+|.+\[[0-9]+\]"


def as_tuple(value: object) -> object:
    """One name or a list of names, as a tuple."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def as_tuple_or_empty(value: object) -> object:
    return () if value is None else as_tuple(value)


def as_section(value: object) -> object:
    """A key without a value (`options:`) is an empty section."""
    return {} if value is None else value


def as_int(value: object) -> object:
    """Integers of NumPy are integers too; `True` is not."""
    is_integer = hasattr(value, "__index__") and not isinstance(value, bool)
    return operator.index(value) if is_integer else value  # type: ignore[arg-type]


def as_bytes(value: object) -> object:
    """`"1.5 GiB"` -> 1610612736; numbers are bytes already."""
    if isinstance(value, float) and value.is_integer() and value <= LARGEST:
        return int(value)
    parsed = re.fullmatch(_MEMORY, value) if isinstance(value, str) else None
    if parsed is None:
        return as_int(value)
    count = float(parsed[1]) * (_UNITS | _BINARY_UNITS)[parsed[2].lower()]
    return math.floor(count) or value if count <= LARGEST else value


def as_seconds(value: object) -> object:
    """`"2min"` -> 120.0; numbers are seconds already."""
    parsed = re.fullmatch(_DURATION, value) if isinstance(value, str) else None
    return value if parsed is None else float(parsed[1]) * _TIMES[parsed[2]]


def _names_dimension(key: str) -> str:
    if not re.fullmatch(_DIMENSION, key):
        raise ValueError(f"found the size {shown(key)}; valid: a variable and axis ('K[0]'), or a dim.")
    return key


_Count = Annotated[int, Field(ge=1, le=LARGEST)]
PositiveInt = Annotated[_Count, BeforeValidator(as_int, json_schema_input_type=_Count)]
_Rows = Annotated[int, Field(ge=0, le=LARGEST)]
Dimension = Annotated[_Rows, BeforeValidator(as_int, json_schema_input_type=_Rows)]
Tolerance = Annotated[float, Field(gt=0, lt=1)]
RelativeError = Annotated[float, Field(ge=LEAST_ERROR, lt=1)]
_MemorySize = Annotated[str, Field(pattern=f"^{_MEMORY}$")]
Memory = Annotated[_Count, BeforeValidator(as_bytes, json_schema_input_type=_Count | _MemorySize)]
_Time = Annotated[float, Field(gt=0, le=LONGEST)]
_Duration = Annotated[str, Field(pattern=f"^{_DURATION}$")]
Seconds = Annotated[_Time, BeforeValidator(as_seconds, json_schema_input_type=_Time | _Duration)]
SizeKey = Annotated[
    str,
    AfterValidator(_names_dimension),
    WithJsonSchema({"type": "string", "pattern": f"^({_DIMENSION})$"}),
]

Request = Annotated[str, OneOf(lambda: REQUESTS)]
Structure = Annotated[str, OneOf(lambda: STRUCTURES)]
Forbidden = Annotated[str, OneOf(strategy_names)]
Requests = Annotated[
    tuple[Request, ...],
    Field(min_length=1),
    BeforeValidator(as_tuple, json_schema_input_type=Request | Annotated[list[Request], Field(min_length=1)]),
]
Structures = Annotated[
    tuple[Structure, ...],
    Field(min_length=1),
    BeforeValidator(
        as_tuple, json_schema_input_type=Structure | Annotated[list[Structure], Field(min_length=1)]
    ),
]
