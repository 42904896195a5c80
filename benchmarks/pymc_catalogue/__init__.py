"""PyMC models as people publish them, written for this project: what they gain, and that nothing changes.

Each builder takes a seed for its data and a factor on its sizes, at 1 orders of about 100, and returns a
`pm.Model`. The first line of its docstring says what it is and which matrices it has. A family is a module;
a new model is a function there and an entry in the module's ``MODELS``.
"""

from __future__ import annotations

from . import (
    factors,
    gaussian_processes,
    multilevel,
    multivariate,
    regression,
    relatedness,
    spatial,
    time_series,
)

FAMILIES = {
    "multilevel": multilevel.MODELS,
    "Gaussian processes": gaussian_processes.MODELS,
    "factors": factors.MODELS,
    "time series": time_series.MODELS,
    "spatial": spatial.MODELS,
    "relatedness": relatedness.MODELS,
    "multivariate": multivariate.MODELS,
    "regression": regression.MODELS,
}
CATALOGUE = {build.__name__: build for models in FAMILIES.values() for build in models}
