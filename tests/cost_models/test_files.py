"""Profile files are whole or refused, and written whole or not at all."""

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from cost_models import (
    KERNELS,
    Profile,
    ProfileError,
    call,
    data_dir,
    fingerprint,
    generic_profile,
    load_profile,
    profile_path,
    save_profile,
)
from cost_models import files as files_module
from cost_models.files import GENERIC_PATH
from cost_models.profile import SCHEMA


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_profile(generic_profile(), tmp_path / "deep" / "down" / "profile.yaml")


def test_round_trip(saved: Path) -> None:
    assert load_profile(saved) == generic_profile()


def test_generic_profile_ships_every_kernel_and_dtype() -> None:
    profile = generic_profile()
    assert profile.source == "generic"
    for dtype in ("float64", "float32"):
        assert list(profile.models[dtype]) == [kernel.name for kernel in KERNELS]
    assert GENERIC_PATH.parent == Path(files_module.__file__).parent


def without(profile: Profile, kernels: Collection[str], factor: float = 1.0) -> Profile:
    """A calibrated profile that lacks kernels, on a machine so many times slower than the generic one."""
    models = {
        dtype: {
            name: replace(m, coefficients={term: factor * c for term, c in m.coefficients.items()})
            for name, m in found.items()
            if name not in kernels
        }
        for dtype, found in profile.models.items()
    }
    return replace(profile, models=models, source="calibrated")


def test_a_kernel_that_a_profile_lacks_is_priced_by_those_like_it(tmp_path: Path) -> None:
    lacking = without(generic_profile(), ("band_factor", "syevr"), 3.0)
    found = load_profile(save_profile(lacking, tmp_path / "old.yaml"))
    for dtype in ("float64", "float32"):
        assert list(found.models[dtype]) == [kernel.name for kernel in KERNELS]
        assert [name for name, model in found.models[dtype].items() if model.derived] == [
            name
            for name in found.models[dtype]
            if name in ("band_factor", "syevr") or generic_profile().models[dtype][name].derived
        ]
        for work in (call("band_factor", n=500, b=2), call("syevr", n=100), call("potrf", n=100)):
            assert found.seconds(work, dtype) == pytest.approx(3 * generic_profile().seconds(work, dtype))
    assert load_profile(save_profile(found, tmp_path / "again.yaml")) == found


def test_kernels_of_another_version_are_left_out(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = saved.read_text()
    block = text[text.index("    potri:") : text.index("    getrf:")]
    saved.write_text(text.replace(block, block + block.replace("potri", "of_the_future")))
    with caplog.at_level(logging.INFO, logger="autotune"):
        assert load_profile(saved) == generic_profile()
    assert "of_the_future" in caplog.text


def test_a_generic_profile_has_all_kernels(tmp_path: Path) -> None:
    lacking = replace(without(generic_profile(), ("band_factor",)), source="generic")
    with pytest.raises(ProfileError, match="it lacks band_factor"):
        load_profile(save_profile(lacking, tmp_path / "generic.yaml"))


@pytest.mark.parametrize("keep", [0, 1, 50, 500, 2000])
def test_truncated_file_is_refused(saved: Path, keep: int) -> None:
    saved.write_text(saved.read_text()[:keep])
    with pytest.raises(ProfileError, match=r"profile\.yaml.*autotune calibrate"):
        load_profile(saved)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f"schema: {SCHEMA}", f"schema: {SCHEMA + 1}"),
        (f"schema: {SCHEMA}", "schema: one"),
        ("source: generic", "source: elsewhere"),
        ("    potrf:", "    potrff:"),
        ("    gemm:", "    gemm: {}\n    hmm:"),
        ("  float32:", "  float16:"),
        ("derived: ", "derived:: [ "),
        ("cores: ", "cores: many #"),
        ("fingerprint:", "fingerprints:"),
        ("{call: ", "{call: -"),
        ("{call: ", "{call: .nan, x: "),
        ("{call: ", "{call: .inf, x: "),
        ("{call: ", "{calls: "),
        ("models:", "models: 3\nothers:"),
    ],
)
def test_corrupted_file_is_refused(saved: Path, old: str, new: str) -> None:
    text = saved.read_text()
    assert old in text
    saved.write_text(text.replace(old, new, 1))
    with pytest.raises(ProfileError, match=r"profile\.yaml"):
        load_profile(saved)


@pytest.mark.parametrize("keep", range(0, 100, 7))
def test_file_cut_anywhere_is_refused_or_whole(saved: Path, keep: int) -> None:
    """A cut at `keep` percent never gives a profile that differs from the one written."""
    text = saved.read_text()
    saved.write_text(text[: len(text) * keep // 100])
    with pytest.raises(ProfileError, match=r"profile\.yaml"):
        load_profile(saved)


@pytest.mark.parametrize(
    "text",
    [
        "schema: 2024-13-45",  # a date that YAML's reader trips over, with an error of its own
        "schema: !!int x",
        "schema: !!timestamp x",
        "schema: " + "9" * 5000,
        "schema: !!python/object:os.system x",
        "schema: [",
        "schema:\n\tx: 1",
        "a: |\n x\nschema:",
        "# no key of ours\nversion: 1\nrules: []",
        "[" * 100_000,
        f'{{"schema": {SCHEMA}}}',
        "<html></html>",
        f"- schema: {SCHEMA}",
    ],
)
def test_foreign_file_is_refused(saved: Path, text: str) -> None:
    saved.write_text(text)
    with pytest.raises(ProfileError, match=r"profile\.yaml .*autotune calibrate"):
        load_profile(saved)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cpu: generic", "cpu: [generic]"),
        ("cpu: generic", "cpu: 7"),
        ("threads: 2", "threads: true"),
        ("threads: 2", "threads: 0"),
        ("threads: 2", "threads: 1.5"),
        ("linker: numba, ", ""),
    ],
)
def test_a_fingerprint_of_other_types_is_refused(saved: Path, old: str, new: str) -> None:
    text = saved.read_text()
    assert old in text
    saved.write_text(text.replace(old, new, 1))
    with pytest.raises(ProfileError, match=r"profile\.yaml is damaged"):
        load_profile(saved)


def test_a_shared_file_can_be_read_by_others(saved: Path) -> None:
    """Written through a temporary file, it still has the permissions that the user's umask gives."""
    plain = saved.with_name("plain")
    plain.touch()
    assert saved.stat().st_mode == plain.stat().st_mode


def test_binary_file_is_refused(saved: Path) -> None:
    saved.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ProfileError, match=r"profile\.yaml"):
        load_profile(saved)


def test_a_future_schema_is_named(saved: Path) -> None:
    saved.write_text(saved.read_text().replace(f"schema: {SCHEMA}", "schema: 77", 1))
    with pytest.raises(ProfileError, match=f"schema 77; this version reads {SCHEMA}"):
        load_profile(saved)


def test_failed_write_keeps_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_text()

    def full_disk(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(files_module.os, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_profile(replace(generic_profile(), created="later"), saved)
    assert saved.read_text() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_home_moves_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTUNE_HOME", str(tmp_path))
    assert data_dir() == tmp_path
    assert profile_path().parent == tmp_path / "profiles"
    assert profile_path().stem == fingerprint().key()
    monkeypatch.delenv("AUTOTUNE_HOME")
    assert data_dir() != tmp_path


def test_prices_add_up_and_count() -> None:
    profile = generic_profile()
    once = profile.seconds(call("potrf", n=100), "float64")
    assert profile.seconds(call("potrf", n=100, count=3), "float64") == pytest.approx(3 * once)
    assert profile.seconds_of([call("potrf", n=100)] * 2, "float64") == pytest.approx(2 * once)
    assert profile.seconds_of([], "float64") == 0
    assert profile.error("potrf", "float64") > 0


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_empty_problems_have_a_price(kernel: object) -> None:
    zero = call(kernel.name, **dict.fromkeys(kernel.dims, 0))
    assert generic_profile().seconds(zero, "float32") >= 0


def test_unknown_dtype_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no prices for dtype 'float16'.*float64"):
        generic_profile().seconds(call("potrf", n=3), "float16")
