"""The regressions that `regressions.py` compares: each learns from `Points` and predicts seconds.

All are scored by the same measure, `|predicted - measured| / (measured + RESOLUTION)`. Those on logarithms
fit `log(seconds + RESOLUTION)`, for which it is the natural loss; the others weight each row by
`1 / (seconds + RESOLUTION)`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog, nnls
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import HuberRegressor, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from cost_models import KERNEL_BY_NAME, KernelModel, fit
from cost_models.kernels import Dims
from cost_models.model import ITEMSIZE, RESOLUTION, features

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """Measured seconds of one kernel; the last-level cache in bytes and the least seconds of a flop."""

    kernel: str
    dtype: str
    sizes: tuple[Dims, ...]
    seconds: tuple[float, ...]
    cache_bytes: int
    flops_floor: float = 0.0

    def at(self, sizes: Sequence[Dims], seconds: Sequence[float]) -> Self:
        """Other points of the same kernel."""
        return replace(self, sizes=tuple(sizes), seconds=tuple(seconds))

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Self:
        """From what `dataclasses.asdict` and JSON make of it."""
        found = cls(**plain)
        return found.at([tuple(dims) for dims in found.sizes], found.seconds)


def relative_errors(points: Points, predicted: Array) -> Array:
    """`|predicted - measured|` over measured seconds, both above the resolution of the clock."""
    times = np.array(points.seconds)
    return np.asarray(np.abs(predicted - times) / (times + RESOLUTION))


def work(kernel: str, dims: Dims) -> float:
    """Flops and bytes, to order shapes by."""
    return KERNEL_BY_NAME[kernel].flops(dims) + KERNEL_BY_NAME[kernel].bytes(dims, 8)


# -- what a shape looks like to a regression ---------------------------------------------------------


@dataclass(frozen=True)
class Logs:
    """Logarithms of the sizes and, if `counted`, of flops and bytes: each rises with every size."""

    kernel: str
    itemsize: int
    counted: bool = False

    def __call__(self, sizes: Sequence[Dims]) -> Array:
        found, columns = KERNEL_BY_NAME[self.kernel], np.log(np.array(sizes, dtype=float))
        if not self.counted:
            return columns
        done = [(1 + found.flops(dims), 1 + found.bytes(dims, self.itemsize)) for dims in sizes]
        return np.hstack([columns, np.log(done)])


@dataclass(frozen=True)
class Counts:
    """A constant, flops and bytes."""

    kernel: str
    itemsize: int

    def __call__(self, sizes: Sequence[Dims]) -> Array:
        found = KERNEL_BY_NAME[self.kernel]
        return np.array([(1.0, found.flops(d), found.bytes(d, self.itemsize)) for d in sizes])


@dataclass(frozen=True)
class Terms:
    """The terms of our own model, with the knot and the share of the cache that it found."""

    model: KernelModel

    def __call__(self, sizes: Sequence[Dims]) -> Array:
        model = self.model
        itemsize = ITEMSIZE[model.dtype]
        return np.array([features(model.kernel, d, itemsize, model.cache_bytes, model.knot) for d in sizes])


# -- predictors --------------------------------------------------------------------------------------

Predictor = Callable[[Sequence[Dims]], Array]


@dataclass(frozen=True)
class Model:
    """Our own."""

    model: KernelModel

    def __call__(self, sizes: Sequence[Dims]) -> Array:
        return np.array([self.model.seconds(dims) for dims in sizes])


@dataclass(frozen=True)
class Linear:
    """`columns @ prices` in seconds."""

    columns: Predictor
    prices: Array

    def __call__(self, sizes: Sequence[Dims]) -> Array:
        return np.asarray(self.columns(sizes) @ self.prices)


@dataclass(frozen=True)
class Logarithmic:
    """An estimator of scikit-learn that has learned `log(seconds + RESOLUTION)`."""

    columns: Predictor
    estimator: Any

    def __call__(self, sizes: Sequence[Dims]) -> Array:
        return np.asarray(np.exp(self.estimator.predict(self.columns(sizes))) - RESOLUTION)


# -- regressions -------------------------------------------------------------------------------------


def ours(points: Points) -> Predictor:
    """`cost_models.fit`: non-negative least squares on our terms, knot and cache by cross-validation."""
    return Model(_model(points))


def plain_nnls(points: Points) -> Predictor:
    """Non-negative least squares on a constant, flops and bytes alone."""
    columns = Counts(points.kernel, ITEMSIZE[points.dtype])
    rows, target, scale = _weighted(columns, points)
    return Linear(columns, nnls(rows, target)[0] / scale)


def quantile(points: Points) -> Predictor:
    """Least absolute relative error on our terms with prices that are not negative: a linear programme."""
    columns = Terms(_model(points))
    rows, target, scale = _weighted(columns, points)
    count, width = rows.shape
    eye = np.eye(count)
    cost = np.r_[np.zeros(width), np.ones(2 * count)]  # what is above the target, what is below
    found = linprog(cost, A_eq=np.hstack([rows, eye, -eye]), b_eq=target)
    return Linear(columns, found.x[:width] / scale)


def huber(points: Points) -> Predictor:
    """Huber's loss of the relative error on our terms, prices of either sign."""
    columns = Terms(_model(points))
    rows, target, scale = _weighted(columns, points)
    found = _fitted(HuberRegressor(fit_intercept=False, max_iter=2000), rows, target)
    return Linear(columns, found.coef_ / scale)


def ridge(points: Points) -> Predictor:
    """Least squares on all products of two logarithms of sizes; the ridge by leave-one-out."""
    polynomial = make_pipeline(PolynomialFeatures(2), StandardScaler(), RidgeCV(np.logspace(-8, 2, 11)))
    return _on_logs(polynomial, points)


def boosting(points: Points) -> Predictor:
    """Gradient boosting of trees, each split monotone in sizes, flops and bytes."""
    columns = Logs(points.kernel, ITEMSIZE[points.dtype], counted=True)
    monotone = [1] * columns(points.sizes).shape[1]
    trees = HistGradientBoostingRegressor(
        max_iter=300, learning_rate=0.05, min_samples_leaf=2, monotonic_cst=monotone, random_state=0
    )
    return _on_logs(trees, points, columns)


def forest(points: Points) -> Predictor:
    """A random forest (Breiman 2001) on sizes, flops and bytes."""
    columns = Logs(points.kernel, ITEMSIZE[points.dtype], counted=True)
    return _on_logs(RandomForestRegressor(n_estimators=200, random_state=0), points, columns)


def gaussian_process(points: Points) -> Predictor:
    """A Gaussian process on logarithms of sizes, a length scale for each; the noise is learned."""
    kernel = ConstantKernel(10.0) * RBF([2.0] * len(points.sizes[0])) + WhiteKernel(1e-2)
    return _on_logs(GaussianProcessRegressor(kernel, normalize_y=True, random_state=0), points)


REGRESSIONS: dict[str, Callable[[Points], Predictor]] = {
    "ours": ours,
    "flops and bytes (NNLS)": plain_nnls,
    "our terms, quantile": quantile,
    "our terms, Huber": huber,
    "ridge, degree 2 in logs": ridge,
    "boosting, monotone": boosting,
    "random forest": forest,
    "Gaussian process": gaussian_process,
}
"""The contestants, ours first."""


def _model(points: Points) -> KernelModel:
    sizes, seconds = points.sizes, points.seconds
    return fit(points.kernel, points.dtype, sizes, seconds, points.cache_bytes, points.flops_floor)


def _weighted(columns: Predictor, points: Points) -> tuple[Array, Array, Array]:
    """Rows and seconds, weighted for the relative error; columns over their length, and those lengths."""
    seconds = np.array(points.seconds)
    weight = 1 / (seconds + RESOLUTION)
    rows = columns(points.sizes) * weight[:, None]
    scale = np.linalg.norm(rows, axis=0)
    scale[scale == 0] = 1.0
    return rows / scale, seconds * weight, scale


def _on_logs(estimator: Any, points: Points, columns: Predictor | None = None) -> Predictor:
    columns = columns or Logs(points.kernel, ITEMSIZE[points.dtype])
    target = np.log(np.array(points.seconds) + RESOLUTION)
    return Logarithmic(columns, _fitted(estimator, columns(points.sizes), target))


def _fitted(estimator: Any, columns: Array, target: Array) -> Any:
    """The fitted estimator; one that stops early is judged by its errors like any other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(columns, target)
