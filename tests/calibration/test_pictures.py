"""The picture shows what was measured and what was fitted, and matplotlib stays as it was."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.graphs import GRAPH_BY_KERNEL
from calibration.session import Pass, Session, open_session
from cost_models import KERNEL_BY_NAME, Profile, fit, generic_profile
from cost_models.kernels import Dims

matplotlib = pytest.importorskip("matplotlib")
pictures = pytest.importorskip("calibration.pictures")

SIZES: dict[str, list[Dims]] = {
    "potrf": [(n,) for n in (2, 5, 12, 40, 140, 450, 1000)],
    "potrs": [(n, m) for n in (5, 40, 90, 200, 800) for m in (1, 3, 20, 150)],
    "gemm": [(m, n, k) for m in (2, 30, 150) for n in (2, 30, 150) for k in (2, 30, 150)],
}


def truth(kernel: str, dims: Dims) -> float:
    found = KERNEL_BY_NAME[kernel]
    return 1e-6 + 2e-11 * found.flops(dims) + 5e-11 * found.bytes(dims, 8)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Three kernels measured without noise, and one without dimensions."""
    made = open_session(tmp_path / "p.yaml", {})
    for kernel, sizes in SIZES.items():
        repeats = GRAPH_BY_KERNEL[kernel].repeats
        times = [(dims, 1e-5 + repeats * truth(kernel, dims), 0.0) for dims in sizes]
        made.record(kernel, "float64", Pass.read({"idle": 1e-5, "times": times}))
    made.record("call", "float64", Pass.read({"idle": 1e-5, "times": [((), 1e-5, 0.0)]}))
    return made


@pytest.fixture
def profile() -> Profile:
    models = {name: dict(found) for name, found in generic_profile().models.items()}
    for kernel, sizes in SIZES.items():
        seconds = [truth(kernel, dims) for dims in sizes]
        models["float64"][kernel] = fit(kernel, "float64", sizes, seconds, 2**25)
    return replace(generic_profile(), models=models, source="calibrated")


@pytest.fixture(autouse=True)
def settings_are_left_alone() -> Iterator[None]:
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before


def panels(profile: Profile, session: Session, *names: str) -> dict[str, object]:
    figure = pictures.picture(profile, session, kernels=names or None).figure
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def test_every_measured_kernel_has_a_panel_and_the_residuals_close_the_picture(
    profile: Profile, session: Session
) -> None:
    assert list(panels(profile, session)) == [*SIZES, "residuals"]
    assert list(panels(profile, session, "gemm")) == ["gemm", "residuals"]


@pytest.mark.parametrize("kernel", SIZES)
def test_points_are_the_measured_times_and_lie_on_the_curves(
    kernel: str, profile: Profile, session: Session
) -> None:
    lines = panels(profile, session, kernel)[kernel].lines
    assert len(lines) == 2 * {"potrf": 1, "potrs": 4, "gemm": 4}[kernel]
    for curve, points in zip(lines[::2], lines[1::2], strict=True):
        at, seconds = points.get_data()
        assert len(at) == {"potrf": 7, "potrs": 5, "gemm": 3}[kernel]
        fitted = np.exp(np.interp(np.log(at), np.log(curve.get_xdata()), np.log(curve.get_ydata())))
        np.testing.assert_allclose(fitted, seconds, rtol=0.05)


@pytest.mark.parametrize("kernel", SIZES)
def test_a_curve_holds_all_dimensions_but_one(kernel: str, session: Session) -> None:
    times = session.net(kernel, "float64")
    for curve in pictures.curves(kernel, times):
        others = {(*dims[: curve.axis], *dims[curve.axis + 1 :]) for dims, _ in curve.times}
        assert len(others) == 1
        assert set(curve.times) <= set(times)
        assert curve.label.count("=") == len(KERNEL_BY_NAME[kernel].dims) - 1


def test_curves_and_points_differ_by_more_than_colour_and_by_grey(profile: Profile, session: Session) -> None:
    lines = panels(profile, session, "potrs")["potrs"].lines
    grey = [np.dot(matplotlib.colors.to_rgb(line.get_color()), (0.299, 0.587, 0.114)) for line in lines[::2]]
    assert min(np.diff(grey)) > 0.1
    assert max(grey) < 0.8
    assert len({line.get_linestyle() for line in lines[::2]}) == 4
    assert len({line.get_marker() for line in lines[1::2]}) == 4


def test_the_histogram_counts_every_size_and_marks_median_and_90th_percentile(
    profile: Profile, session: Session
) -> None:
    models = {name: dict(found) for name, found in profile.models.items()}
    slow = models["float64"]["potrf"]
    models["float64"]["potrf"] = replace(
        slow, coefficients={name: 3 * price for name, price in slow.coefficients.items()}
    )
    axes = panels(replace(profile, models=models), session)["residuals"]
    counts = [bar.get_height() for bar in axes.patches]
    assert sum(counts) == sum(map(len, SIZES.values()))
    expected = np.concatenate(
        [pictures.residuals(models["float64"][kernel], session.net(kernel, "float64")) for kernel in SIZES]
    )
    at = [line.get_xdata()[0] for line in axes.lines]
    high = np.quantile(np.abs(expected), 0.9)
    np.testing.assert_allclose(at, [np.median(expected), -high, high])
    assert "beyond" in axes.get_title(loc="right")


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_same_profile_gives_the_same_file(
    ending: str, profile: Profile, session: Session, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        pictures.picture(profile, session, kernels=["potrs"]).savefig(tmp_path / f"{name}.{ending}")
    first = (tmp_path / f"one.{ending}").read_bytes()
    assert first == (tmp_path / f"two.{ending}").read_bytes()
    assert first.startswith(b"\x89PNG" if ending == "png" else b"<?xml")
    if ending == "svg":
        assert b">m=150<" in first


@pytest.mark.parametrize(
    ("dtype", "kernels", "said"),
    [
        ("float64", ["potri"], "no float64 times of potri. Known are: potrf, potrs, gemm"),
        ("float64", ["cholesky"], "no float64 times of cholesky"),
        ("float32", None, "no float32 times of any kernel"),
        ("float16", None, "no float16 times of any kernel"),
    ],
)
def test_what_was_not_measured_cannot_be_drawn(
    dtype: str, kernels: list[str] | None, said: str, profile: Profile, session: Session
) -> None:
    with pytest.raises(ValueError, match=said):
        pictures.picture(profile, session, dtype, kernels)


def test_another_ending_is_refused(profile: Profile, session: Session, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'docx' is not supported"):
        pictures.picture(profile, session, kernels=["potrf"]).savefig(tmp_path / "picture.docx")
