"""Timing: least of many samples, small cases never dropped, a budget that holds."""

from types import SimpleNamespace

import pytest

from calibration import measure as measure_module
from calibration.grids import grid
from calibration.measure import MIN_ROUNDS, ROUNDS, Case, measure
from cost_models import KERNELS, Kernel
from cost_models.model import FEWEST_POINTS

by_name = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
any_grid = pytest.mark.parametrize("quick", [True, False])


@by_name
@any_grid
def test_grids_rise_and_suffice_for_a_fit(kernel: Kernel, quick: bool) -> None:
    sizes = grid(kernel.name, quick)
    work = [kernel.flops(dims) + kernel.bytes(dims, 8) for dims in sizes]
    assert work == sorted(work)
    assert len(set(sizes)) == len(sizes)
    assert all(len(dims) == len(kernel.dims) and min(dims, default=1) > 0 for dims in sizes)
    assert len(sizes) >= 2 * FEWEST_POINTS or not kernel.dims


@by_name
def test_full_grid_reaches_further(kernel: Kernel) -> None:
    assert len(grid(kernel.name, False)) > len(grid(kernel.name, True)) or not kernel.dims


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What `measure` takes for the time; ``clock.spend(seconds)`` is work on a machine of its own."""
    clock = SimpleNamespace(now=0.0)
    clock.spend = lambda seconds: setattr(clock, "now", clock.now + seconds)
    told = SimpleNamespace(perf_counter=lambda: clock.now, perf_counter_ns=lambda: 1e9 * clock.now)
    monkeypatch.setattr(measure_module, "time", told)
    return clock


def test_every_case_is_sampled_and_the_least_is_kept() -> None:
    cases = measure([Case(sum, (n,), (range(n),)) for n in (1, 10, 100)], budget=0.2)
    assert [case.dims for case in cases] == [(1,), (10,), (100,)]
    for case in cases:
        assert MIN_ROUNDS <= len(case.samples) <= ROUNDS + 1
        assert case.seconds == min(case.samples) > 0


def test_budget_cuts_off_the_largest(clock: SimpleNamespace) -> None:
    cases = measure((Case(clock.spend, (n,), (0.02 * n,)) for n in range(1, 100)), budget=0.5)
    assert 0.5 <= clock.now <= 0.75
    assert 1 <= len(cases) < 99
    assert cases[0].dims == (1,)


def test_arguments_beyond_the_budget_are_never_built(clock: SimpleNamespace) -> None:
    built = []

    def cases():
        for n in range(1, 100):
            built.append(n)
            yield Case(clock.spend, (n,), (0.02 * n,))

    measure(cases(), budget=0.3)
    assert len(built) < 50
