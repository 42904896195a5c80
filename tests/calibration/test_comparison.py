"""Two profiles side by side: ratios of predicted seconds, and what differs about the machines."""

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from calibration.comparison import print_comparison, ratio, three_sizes
from cost_models import KERNELS, KernelModel, Profile, generic_profile


def scaled(profile: Profile, factor: float) -> Profile:
    """Every price times `factor`."""

    def times(model: KernelModel) -> KernelModel:
        return replace(model, coefficients={name: factor * c for name, c in model.coefficients.items()})

    models = {
        dtype: {name: times(model) for name, model in found.items()}
        for dtype, found in profile.models.items()
    }
    return replace(profile, models=models)


def printed(first: Profile, second: Profile) -> str:
    out = io.StringIO()
    print_comparison(first, second, Console(file=out, width=130))
    return out.getvalue()


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_the_sizes_rise_in_work(kernel: object) -> None:
    work = [kernel.flops(dims) + kernel.bytes(dims, 8) for dims in three_sizes(kernel)]
    assert len(work) == (3 if kernel.dims else 1)
    assert work == sorted(set(work)) or not kernel.dims


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_prices_twice_as_high_have_the_ratio_2_at_every_size(kernel: object) -> None:
    model = generic_profile().models["float64"][kernel.name]
    double = scaled(generic_profile(), 2).models["float64"][kernel.name]
    for dims in three_sizes(kernel):
        assert ratio(double, model, dims) == pytest.approx(2)


def test_what_costs_nothing_has_no_finite_ratio() -> None:
    model = generic_profile().models["float64"]["potrf"]
    free = replace(model, coefficients={})
    assert math.isinf(ratio(model, free, (10,)))
    assert math.isnan(ratio(free, free, (10,)))
    assert ratio(free, model, (10,)) == 0
    assert "nan" in printed(scaled(generic_profile(), 0), scaled(generic_profile(), 0))


def test_the_mean_and_every_kernel_are_printed_for_each_dtype() -> None:
    shown = printed(scaled(generic_profile(), 2), generic_profile())
    for dtype in generic_profile().models:
        assert f"geometric mean of the ratios in {dtype}: 2.00" in shown
    assert all(shown.count(f"│ {kernel.name} ") == 2 for kernel in KERNELS)


def test_different_machines_are_named_first_and_equal_ones_not_at_all() -> None:
    here = generic_profile()
    other = replace(here, fingerprint=replace(here.fingerprint, threads=64, cpu="Big"))
    lines = printed(here, other).splitlines()
    assert lines[:3] == [
        "These are different machines:",
        "  cpu: A generic, B Big",
        f"  threads: A {here.fingerprint.threads}, B 64",
    ]
    assert printed(here, here).startswith("A: ")
