"""Kernels count work: positive, monotone, checked."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models import KERNEL_BY_NAME, KERNELS, Kernel, KernelCall, call, generic_profile, grid

FIXED = ("call", "node")
by_name = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
sized = pytest.mark.parametrize("kernel", [k for k in KERNELS if k.dims], ids=lambda kernel: kernel.name)


@by_name
def test_names_are_unique_and_found(kernel: Kernel) -> None:
    assert KERNEL_BY_NAME[kernel.name] is kernel
    assert sum(other.name == kernel.name for other in KERNELS) == 1
    labels = [term.name for term in kernel.terms]
    assert len(set(labels)) == len(labels)


@sized
def test_work_is_positive(kernel: Kernel) -> None:
    dims = (3,) * len(kernel.dims)
    assert kernel.flops(dims) > 0 or kernel.name == "diagonal"
    assert kernel.bytes(dims, 8) > 0
    assert kernel.bytes(dims, 8) == 2 * kernel.bytes(dims, 4)


@pytest.mark.parametrize("name", FIXED)
def test_fixed_costs_do_no_work(name: str) -> None:
    assert KERNEL_BY_NAME[name].flops(()) == 0
    assert KERNEL_BY_NAME[name].bytes((), 8) == 0


@sized
def test_work_and_every_term_never_fall(kernel: Kernel) -> None:
    counts = [kernel.flops, lambda dims: kernel.bytes(dims, 8), *(term.value for term in kernel.terms)]
    for dims in product((0, 1, 2, 5, 100), repeat=len(kernel.dims)):
        for axis in range(len(dims)):
            larger = (*dims[:axis], dims[axis] + 1, *dims[axis + 1 :])
            assert all(count(larger) >= count(dims) >= 0 for count in counts)


@sized
def test_a_grid_is_priced_as_its_points_are(kernel: Kernel) -> None:
    points = list(product((1, 2, 8, 9, 300, 70_000), repeat=len(kernel.dims)))
    profile = generic_profile()
    dims = dict(zip(kernel.dims, map(grid, zip(*points, strict=True)), strict=True))
    at_once = profile.seconds(call(kernel.name, **dims), "float64")
    alone = [profile.seconds(KernelCall(kernel.name, point), "float64") for point in points]
    assert at_once == pytest.approx(alone, rel=1e-12)


def test_leading_orders_are_the_textbook_ones() -> None:
    assert KERNEL_BY_NAME["potrf"].flops((300,)) == pytest.approx(300**3 / 3)
    assert KERNEL_BY_NAME["potri"].flops((300,)) == pytest.approx(2 * 300**3 / 3)
    assert KERNEL_BY_NAME["gemm"].flops((2, 3, 5)) == 60
    assert KERNEL_BY_NAME["potrs"].flops((10, 3)) == 600


@given(m=st.integers(0, 9), n=st.integers(0, 9), k=st.integers(0, 9), count=st.floats(0, 9))
def test_call_puts_the_dimensions_in_order(m: int, n: int, k: int, count: float) -> None:
    assert call("gemm", k=k, n=n, m=m, count=count) == KernelCall("gemm", (m, n, k), count)


def test_call_without_dimensions() -> None:
    assert call("node", count=3) == KernelCall("node", (), 3.0)


@pytest.mark.parametrize(
    ("name", "dims", "message"),
    [
        ("cholesky", {"n": 3}, "There is no kernel 'cholesky'"),
        ("potrf", {"m": 3}, r"takes \['n'\]"),
        ("potrf", {"n": 3, "m": 1}, r"takes \['n'\]"),
        ("potrf", {"n": -1}, "not negative"),
        ("potrf", {"n": 1, "count": -1}, "not negative"),
    ],
)
def test_call_refuses_what_is_not_a_kernel_call(name: str, dims: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(name, **dims)
