"""Profile: the prices of every kernel on one machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cost_models.fingerprint import Fingerprint
from cost_models.kernels import KernelCall
from cost_models.model import KernelModel

SCHEMA = 3
SOURCES = ("calibrated", "generic")


@dataclass(frozen=True)
class Profile:
    """The prices of every kernel on one machine: `models[dtype][kernel]`."""

    fingerprint: Fingerprint
    models: Mapping[str, Mapping[str, KernelModel]]
    created: str
    library_versions: Mapping[str, str]
    schema: int = SCHEMA
    source: str = "calibrated"

    def seconds(self, call: KernelCall, dtype: str) -> Any:
        """Predicted seconds of `call.count` runs; an unknown dtype is an error, not a guess.

        At each point of a `Grid`, if the dimensions of the call are such.
        """
        return call.count * self._model(call.kernel, dtype).seconds(call.dims)

    def seconds_of(self, calls: Iterable[KernelCall], dtype: str) -> float:
        """Predicted seconds of all the calls together."""
        return float(sum(self.seconds(call, dtype) for call in calls))

    def error(self, kernel: str, dtype: str) -> float:
        """The median relative error of this kernel's model on held-out measurements."""
        return self._model(kernel, dtype).error

    def uncertainty(self, call: KernelCall, dtype: str) -> float:
        """Standard error in seconds of `seconds(call, dtype)`."""
        model = self._model(call.kernel, dtype)
        return float(call.count * model.seconds(call.dims) * model.uncertainty(call.dims))

    def measured(self, dtype: str) -> bool:
        """Whether most prices in this dtype were measured in it."""
        return 2 * sum(model.derived for model in self.models[dtype].values()) < len(self.models[dtype])

    def _model(self, kernel: str, dtype: str) -> KernelModel:
        if dtype not in self.models:
            raise ValueError(
                f"The profile has no prices for dtype {dtype!r}. It knows {', '.join(self.models)}."
            )
        models = self.models[dtype]
        if kernel not in models:
            raise ValueError(f"There is no kernel {kernel!r}. Known are: {', '.join(models)}.")
        return models[kernel]
