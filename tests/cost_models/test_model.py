"""The fit: it recovers what is there, and stays monotone whatever is there."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models import KERNELS, Kernel, KernelModel, fit, generic_profile
from cost_models.model import FEWEST_POINTS, ITEMSIZE, NO_KNOT, features, fixed, scaled, term_names

CACHE = 2**25
SIDES = (1, 3, 10, 40, 150, 600, 2000)
sized = pytest.mark.parametrize("kernel", [k for k in KERNELS if k.dims], ids=lambda kernel: kernel.name)


def grid(kernel: Kernel) -> list[tuple[int, ...]]:
    if kernel.name in ("stream", "exp", "reduce"):
        return [(n,) for n in (1, 10, 100, 10**3, 10**4, 10**5, 10**6, 10**7, 3 * 10**7)]
    sides = sorted({*SIDES, 70, 300, 1000}) if len(kernel.dims) == 1 else SIDES
    return list(product(sides, repeat=len(kernel.dims)))


def machine(kernel: Kernel, scale: float = 1.0) -> KernelModel:
    """1 us a call, 50 GFLOP/s, 20 GB/s and 10 GB/s more beyond the cache."""
    prices = {"call": 1e-6, "flops": 2e-11, "bytes": 5e-11, "bytes_beyond": 1e-10}
    return KernelModel(kernel.name, "float64", {k: scale * v for k, v in prices.items()}, CACHE, NO_KNOT)


@sized
def test_fit_recovers_a_machine_of_the_models_kind(kernel: Kernel) -> None:
    truth, sizes = machine(kernel), grid(kernel)
    model = fit(kernel.name, "float64", sizes, [truth.seconds(dims) for dims in sizes], CACHE)
    assert model.error < 1e-3
    for dims in sizes:
        assert model.seconds(dims) == pytest.approx(truth.seconds(dims), rel=0.02)


def test_fit_reads_the_coefficients_back() -> None:
    truth = KernelModel("gemv", "float64", {"call": 2e-6, "bytes": 4e-11}, CACHE, NO_KNOT)
    sizes = list(product((2, 30, 200, 1000), repeat=2))
    model = fit("gemv", "float64", sizes, [truth.seconds(dims) for dims in sizes], CACHE)
    total = {name: model.coefficients.get(name, 0) for name in ("flops", "flops_beyond", "bytes")}
    assert model.coefficients["call"] == pytest.approx(2e-6, rel=1e-3)
    # gemv does a quarter of a flop per byte, so the two prices can only be told apart as a sum
    assert total["bytes"] + total["flops"] / 4 == pytest.approx(4e-11, rel=0.01)


@sized
def test_fit_to_noise_stays_monotone_and_nonnegative(kernel: Kernel) -> None:
    truth, sizes = machine(kernel), grid(kernel)
    noise = np.random.default_rng(1).lognormal(sigma=0.5, size=len(sizes))
    times = [truth.seconds(dims) * factor for dims, factor in zip(sizes, noise, strict=True)]
    model = fit(kernel.name, "float64", sizes, times, CACHE)
    assert min(model.coefficients.values()) >= 0
    assert set(model.coefficients) <= set(term_names(kernel.name))
    assert 0.05 < model.error <= model.error_p90
    assert_monotone(model, grid(kernel))


@sized
@pytest.mark.parametrize("dtype", ITEMSIZE)
def test_shipped_prices_are_monotone(kernel: Kernel, dtype: str) -> None:
    assert_monotone(generic_profile().models[dtype][kernel.name], grid(kernel))


def assert_monotone(model: KernelModel, sizes: list[tuple[int, ...]]) -> None:
    for dims in sizes:
        for axis in range(len(dims)):
            larger = (*dims[:axis], 2 * dims[axis], *dims[axis + 1 :])
            assert model.seconds(larger) >= model.seconds(dims) > 0


@given(n=st.integers(0, 10**6), m=st.integers(0, 10**4), step=st.integers(1, 10**5))
@settings(deadline=None)
def test_monotone_in_every_dimension_at_any_size(n: int, m: int, step: int) -> None:
    for name in ("potrs", "gesv", "trsm", "low_rank_factor"):
        model = generic_profile().models["float64"][name]
        assert model.seconds((n, m)) <= model.seconds((n + step, m))
        assert model.seconds((n, m)) <= model.seconds((n, m + step))


def test_fit_is_deterministic() -> None:
    sizes = [(n,) for n in range(2, 400, 20)]
    times = list(1e-6 * np.random.default_rng(0).random(len(sizes)) + 1e-6)
    assert fit("potrf", "float64", sizes, times, CACHE) == fit("potrf", "float64", sizes, times, CACHE)


def test_an_outlier_shows_in_the_held_out_error() -> None:
    sizes = [(n,) for n in range(2, 400, 20)]
    times = [1e-5] * len(sizes)
    assert fit("potrf", "float64", sizes, times, CACHE).error_p90 < 1e-6
    times[7] = times[13] = times[3] = 1e-4
    assert fit("potrf", "float64", sizes, times, CACHE).error_p90 > 0.1


def test_flops_cost_at_least_the_floor() -> None:
    sizes = [(n,) for n in range(2, 400, 20)]
    model = fit("potrf", "float64", sizes, [1e-5] * len(sizes), CACHE, flops_floor=1e-12)
    assert model.seconds((10_000,)) >= 1e-12 * 10_000**3 / 3


def test_a_knot_needs_points_beyond_it() -> None:
    sizes = [(n,) for n in range(2, 30)]
    times = [1e-6 + 1e-10 * n**3 for (n,) in sizes]
    model = fit("potrf", "float64", sizes, times, CACHE)
    assert model.knot in (1e4, NO_KNOT) or model.knot < 29**3 / 3
    assert model.seconds((300,)) > 300**3 * 5e-11  # extrapolates with the price it has learned


@pytest.mark.parametrize(
    "times", [[1e-6] * (FEWEST_POINTS - 1), [1e-6, -1.0, 1.0, 1.0, 1.0], [float("nan")] * 9]
)
def test_fit_refuses_what_is_no_measurement(times: list[float]) -> None:
    with pytest.raises(ValueError, match="Kernel 'potrf' has"):
        fit("potrf", "float64", [(n + 1,) for n in range(len(times))], times, CACHE)


def test_features_check_the_number_of_sizes() -> None:
    with pytest.raises(ValueError, match="takes"):
        features("gemm", (1, 2), 8, CACHE, NO_KNOT)


def test_describe_speaks_in_rates() -> None:
    said = machine(next(k for k in KERNELS if k.name == "gemm")).describe()
    assert said == "1 us a call, 50 GFLOP/s, 20 GB/s, 10 GB/s more beyond 32 MiB"
    assert fixed("node", "float64", 0.0, CACHE).describe() == "nothing per call"


def test_scaled_says_that_it_is_derived() -> None:
    model = scaled(machine(KERNELS[2]), "float32", {"flops": 0.5})
    assert model.derived
    assert model.dtype == "float32"
    assert model.coefficients["flops"] == pytest.approx(1e-11)
    assert model.coefficients["call"] == pytest.approx(1e-6)
