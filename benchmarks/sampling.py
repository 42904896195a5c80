"""Effective samples a second of whole runs, with and without autotune: PyMC's NUTS and nutpie.

    python benchmarks/sampling.py [--models random_intercepts animal_model] [--samplers pymc nutpie]

Models of the catalogue (`pymc_catalogue/`), every run in a process of its own, plain and autotune in turn.
Told are the seconds until the first draw (compiling, with caches as they are), those of sampling, and the
smallest bulk effective sample size of any parameter over both. The draws of the two begin with the same seed
and differ by rounding, which grows: effective sizes agree as those of two seeds do.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import time
from contextlib import nullcontext
from typing import Any

from tables import MarkdownTable

MODELS = ("random_intercepts", "animal_model", "factor_analysis", "gp_linear_kernel", "proper_car")
SAMPLERS = ("pymc", "nutpie")


def run(name: str, sampler: str, *, tuned: bool, draws: int, tune: int) -> dict[str, float]:
    """Seconds to compile and to sample, and the smallest effective sample size."""
    import arviz as az
    import pymc as pm
    from pymc_catalogue import CATALOGUE

    import autotune

    logging.getLogger("pymc").setLevel(logging.ERROR)
    model = CATALOGUE[name]()
    start = time.perf_counter()
    with autotune.enabled() if tuned else nullcontext():
        options: dict[str, Any] = {"draws": draws, "tune": tune, "chains": 2}
        if sampler == "nutpie":
            import nutpie

            compiled = nutpie.compile_pymc_model(model)
            compiling = time.perf_counter() - start
            trace = nutpie.sample(compiled, seed=1, cores=1, progress_bar=False, **options)
            sampling = time.perf_counter() - start - compiling
        else:
            trace = pm.sample(
                progressbar=False,
                model=model,
                random_seed=1,
                cores=1,
                compute_convergence_checks=False,
                **options,
            )
            sampling = float(trace.posterior.attrs["sampling_time"])
            compiling = time.perf_counter() - start - sampling
    sizes = az.ess(trace, method="bulk")
    least = min(float(sizes[var].min()) for var in sizes.data_vars)
    return {"compiling": compiling, "sampling": sampling, "ess": least}


def in_process(arguments: argparse.Namespace, name: str, sampler: str, side: str) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", __file__, "--one", name, sampler, side]
    sizes = ["--draws", str(arguments.draws), "--tune", str(arguments.tune)]
    done = subprocess.run([*command, *sizes], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="names of the catalogue")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--tune", type=int, default=500)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, sampler, side = arguments.one
        found = run(name, sampler, tuned=side == "autotune", draws=arguments.draws, tune=arguments.tune)
        print(json.dumps(found))
        return
    columns = ("compile [s]", "sample [s]", "least ESS", "ESS / s of sampling", "ESS / s in all")
    table = MarkdownTable("model", "sampler", *(f"{column}: plain, autotune" for column in columns))
    for name in arguments.models:
        for sampler in arguments.samplers:
            both = [in_process(arguments, name, sampler, side) for side in ("plain", "autotune")]
            table.add_row(name, sampler, *(", ".join(f"{row(found):.3g}" for found in both) for row in ROWS))


ROWS = (
    lambda found: found["compiling"],
    lambda found: found["sampling"],
    lambda found: found["ess"],
    lambda found: found["ess"] / found["sampling"],
    lambda found: found["ess"] / (found["sampling"] + found["compiling"]),
)

if __name__ == "__main__":
    main()
