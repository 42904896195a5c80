"""What the first call costs: CPU seconds of a process that imports, compiles and calls, plain and autotune.

cold: with empty caches; warm: again, with what the first left on disk; other: then for matrices of another
size. In brackets what is left without the import of PyTensor or PyMC.

python benchmarks/first_call.py                           all problems, one run
python benchmarks/first_call.py --repeats 3 solve         the median of three, each in fresh caches
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

MOMENTS = ("cold", "warm", "other")
WAYS = ("plain", "autotune")


def solve_and_det(n: int, mode: Any) -> Any:
    import numpy as np
    import pytensor
    import pytensor.tensor as pt
    from pytensor.tensor.linalg import det, solve

    A, b = pt.matrix("A", shape=(n, n)), pt.vector("b", shape=(n,))
    rng = np.random.default_rng(0)
    fn = pytensor.function([A, b], [solve(A, b), det(A)], mode=mode)
    return fn(rng.normal(size=(n, n)) + n**0.5 * np.eye(n), rng.normal(size=n))


def gaussian_process(n: int, mode: Any) -> Any:
    import numpy as np
    import pytensor
    import pytensor.tensor as pt
    from pytensor.tensor.linalg import inv, slogdet

    D, y = pt.matrix("D", shape=(n, n)), pt.vector("y", shape=(n,))
    theta = pt.vector("theta", shape=(3,))
    K = pt.exp(theta[0]) * pt.exp(-0.5 * D / pt.exp(theta[1])) + pt.diag(pt.full(n, pt.exp(theta[2])))
    loss = 0.5 * (y @ inv(K) @ y + slogdet(K)[1])
    fn = pytensor.function([D, y, theta], [loss, pt.grad(loss, theta)], mode=mode)
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    return fn((x[:, None] - x) ** 2, rng.normal(size=n), np.zeros(3))


def factor_analysis(n: int, mode: Any) -> Any:
    import numpy as np
    import pymc as pm
    import pytensor.tensor as pt

    rng = np.random.default_rng(0)
    with pm.Model() as model:
        W, psi = pm.Normal("W", shape=(n, 5)), pm.HalfNormal("psi", shape=n)
        pm.MvNormal("y", 0, cov=W @ W.T + pt.diag(psi), observed=rng.normal(size=(50, n)))
    fn = model.logp_dlogp_function(ravel_inputs=True, mode=mode)
    fn.set_extra_values({})
    return fn(rng.normal(scale=0.3, size=6 * n))


# Each with a size and another one.
PROBLEMS: dict[str, tuple[Callable[[int, Any], Any], int, int]] = {
    "solve": (solve_and_det, 200, 300),
    "gp": (gaussian_process, 500, 400),
    "factors": (factor_analysis, 200, 150),
}


def first_call(name: str, way: str, n: int) -> tuple[float, float]:
    """CPU seconds of this process until the first number, and of them after the libraries' import."""
    import pytensor

    problem = PROBLEMS[name][0]
    if name == "factors":
        import pymc  # noqa: F401
    begin = time.process_time()
    if way == "plain":
        problem(n, pytensor.config.mode)
    elif name == "factors":  # PyMC differentiates before it compiles
        import autotune

        with autotune.enabled():
            problem(n, None)
    else:
        import autotune

        problem(n, autotune.mode())
    end = time.process_time()
    return end, end - begin


def measured(name: str, way: str) -> dict[str, tuple[float, float]]:
    """CPU seconds of every moment, in fresh caches."""
    _, n, other = PROBLEMS[name]
    with tempfile.TemporaryDirectory() as cache:
        flags = filter(None, [os.environ.get("PYTENSOR_FLAGS"), f"base_compiledir={cache}/pytensor"])
        environment = os.environ | {"PYTENSOR_FLAGS": ",".join(flags), "NUMBA_CACHE_DIR": f"{cache}/numba"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages have theirs

        def run(size: int) -> tuple[float, float]:
            command = [sys.executable, __file__, "--in-this-process", name, way, str(size)]
            found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if found.returncode:
                raise RuntimeError(found.stderr)
            whole, inside = map(float, found.stdout.split()[-2:])
            return whole, inside

        return dict(zip(MOMENTS, (run(n), run(n), run(other)), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problems", nargs="*", default=list(PROBLEMS), metavar="PROBLEM")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--in-this-process", nargs=3, metavar=("PROBLEM", "WAY", "N"))
    args = parser.parse_args()
    if args.in_this_process:
        name, way, n = args.in_this_process
        print(*first_call(name, way, int(n)))
        return
    from tables import MarkdownTable

    table = MarkdownTable("problem", "moment", *(f"{way}, CPU s" for way in args.ways), "ratio")
    for name in args.problems:
        runs = {way: [measured(name, way) for _ in range(args.repeats)] for way in args.ways}
        for moment in MOMENTS:
            found = [
                [median(part) for part in zip(*(run[moment] for run in runs[way]), strict=True)]
                for way in args.ways
            ]
            ratios = (last / first for first, last in zip(found[0], found[-1], strict=True))
            table.add_row(name, moment, *("{:.2f} ({:.2f})".format(*pair) for pair in (*found, [*ratios])))


if __name__ == "__main__":
    main()
