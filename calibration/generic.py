"""`python -m calibration.generic`: make the generic profile that ships with the package.

Measured here and rounded to two digits: a typical machine, not a certain one. Run it after adding
a kernel, or when a calibrated machine is a better example of what users have.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from calibration.run import calibrate
from cost_models import Fingerprint, KernelModel, Profile, save_profile
from cost_models.files import GENERIC_PATH

LEAST_ERROR = 0.3
"""What the generic prices may be off on a machine that nobody has measured."""
LEAST_UNCERTAINTY = 0.15
"""Less than that: a machine that is faster or slower changes all prices alike, and the choice little."""


def generic(profile: Profile) -> Profile:
    """The profile rounded, without the name of its machine, and with an honest error."""
    machine = Fingerprint("generic", 2, "any", "any", 2, "numba", profile.fingerprint.cache_bytes)
    models = {
        dtype: {name: _rounded(model) for name, model in models.items()}
        for dtype, models in profile.models.items()
    }
    return replace(profile, fingerprint=machine, models=models, source="generic")


def _rounded(model: KernelModel) -> KernelModel:
    return replace(
        model,
        coefficients={name: float(f"{c:.1e}") for name, c in model.coefficients.items()},
        error=round(max(model.error, LEAST_ERROR), 2),
        error_p90=round(max(model.error_p90, 2 * LEAST_ERROR), 2),
        errors=tuple(round(max(error, LEAST_UNCERTAINTY), 2) for error in model.errors),
        reach=float(f"{model.reach:.1e}"),
        points=0,
    )


def main() -> Path:
    """Calibrate this machine in full and replace the shipped file."""
    return save_profile(generic(calibrate()), GENERIC_PATH)


if __name__ == "__main__":
    print(main())
