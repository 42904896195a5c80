"""What the pass adds to a compile: CPU milliseconds in its rewrites, and their share of the whole compile.

Part of them takes the place of what PyTensor would do: beside them stands the compile without autotune.

python benchmarks/pass_time.py                      ten graphs, the Python linker
python benchmarks/pass_time.py --linker numba       against Numba's compile, from its cache
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.compile.mode import Mode, get_mode
from pytensor.graph.traversal import applys_between
from pytensor.tensor.linalg import inv, kron, slogdet, solve
from tables import MarkdownTable

import autotune
from autotune.rewrite.passes import GuardedPass

N, K = 300, 5


def gp(count: int, *, shapes: bool = True, gradient: bool = True) -> Callable[[], tuple[list, list]]:
    """So many Gaussian processes on the same inputs, summed."""

    def build():
        X = pt.matrix("X", shape=(N, 2) if shapes else (None, None))
        y = pt.vector("y", shape=(N,) if shapes else (None,))
        theta = pt.vector("theta", shape=(2 * count,))
        loss = 0.0
        for i in range(count):
            Z = X / pt.exp(theta[2 * i])
            q = (Z**2).sum(axis=1)
            D = pt.maximum(q[:, None] + q[None, :] - 2 * Z @ Z.T, 0)
            Kxx = pt.exp(-0.5 * D) + theta[2 * i + 1] ** 2 * pt.eye(X.shape[0])
            loss = loss + y @ inv(Kxx) @ y + slogdet(Kxx)[1]
        return [X, y, theta], [loss, pt.grad(loss, theta)] if gradient else [loss]

    return build


def low_rank(count: int, *, shapes: bool = True) -> Callable[[], tuple[list, list]]:
    """So many matrices of diagonal plus low rank, value and gradient."""

    def build():
        inputs, loss = [pt.vector("y", shape=(N if shapes else None,))], 0.0
        for i in range(count):
            U = pt.matrix(f"U{i}", shape=(N, K) if shapes else (None, None))
            d = pt.vector(f"d{i}", shape=(N if shapes else None,))
            M = U @ U.T + pt.diag(pt.exp(d))
            loss = loss + inputs[0] @ solve(M, inputs[0]) + slogdet(M)[1]
            inputs += [U, d]
        return inputs, [loss, *pt.grad(loss, inputs[1:])]

    return build


def kronecker() -> tuple[list, list]:
    A, B, y = pt.matrix("A", shape=(15, 15)), pt.matrix("B", shape=(20, 20)), pt.vector("y", shape=(N,))
    M = kron(A @ A.T + pt.eye(15), B @ B.T + pt.eye(20))
    loss = autotune.tune(y @ solve(M, y) + slogdet(M)[1])
    return [A, B, y], [loss, *pt.grad(loss, [A, B])]


GRAPHS: dict[str, Callable[[], tuple[list, list]]] = {
    "GP, value": gp(1, gradient=False),
    "GP": gp(1),
    "GP without shapes": gp(1, shapes=False),
    "low rank": low_rank(1),
    "low rank without shapes": low_rank(1, shapes=False),
    "Kronecker product": kronecker,
    "three GPs": gp(3),
    "eight low rank": low_rank(8),
}


def factor_analysis() -> Any:
    import pymc as pm

    with pm.Model() as model:
        W, psi = pm.Normal("W", shape=(40, 3)), pm.HalfNormal("psi", shape=40)
        pm.MvNormal("y", 0, cov=W @ W.T + pt.diag(psi), observed=np.ones((5, 40)))
    return model


def latent_gp() -> Any:
    import pymc as pm

    X = np.linspace(0, 1, 50)[:, None]
    with pm.Model() as model:
        cov = pm.HalfNormal("eta") ** 2 * pm.gp.cov.Matern52(1, ls=pm.HalfNormal("ls"))
        pm.gp.Marginal(cov_func=cov).marginal_likelihood("y", X, X[:, 0], sigma=pm.HalfNormal("s"))
    return model


MODELS = {"PyMC, factor analysis": factor_analysis, "PyMC, GP": latent_gp}


def spent(compile_it: Callable[[], Any]) -> tuple[float, float]:
    """CPU seconds in the rewrites of the pass, and of all."""
    inside, depth, apply = [0.0], [0], GuardedPass.apply

    def timed(self, fgraph):
        depth[0] += 1
        begin = time.process_time()
        try:
            return apply(self, fgraph)
        finally:
            depth[0] -= 1
            if not depth[0]:  # what one of them calls is within it
                inside[0] += time.process_time() - begin

    with patch.object(GuardedPass, "apply", timed):
        begin = time.process_time()
        compile_it()
        return inside[0], time.process_time() - begin


def compiles(name: str, base: Mode) -> tuple[int, Callable[[], Any], Callable[[], Any]]:
    """Nodes of a graph, and what compiles it with autotune and without."""
    if name in MODELS:
        model = MODELS[name]()

        def plain():
            return model.logp_dlogp_function(ravel_inputs=True, mode=base)

        def tuned():
            with autotune.enabled():
                return plain()

        return len(list(applys_between([], [model.logp()]))), tuned, plain
    inputs, outputs = GRAPHS[name]()
    mode = autotune.mode(base=base)

    def compile_in(mode):
        return lambda: pytensor.function(inputs, outputs, mode=mode)

    return len(list(applys_between(inputs, outputs))), compile_in(mode), compile_in(base)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--linker", choices=["py", "numba"], default="py")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    base = Mode(linker="py", optimizer="fast_run") if args.linker == "py" else get_mode("NUMBA")
    table = MarkdownTable("graph", "nodes", "pass, ms", "compile, ms", "share, %", "without, ms")
    for name in (*GRAPHS, *MODELS):
        nodes, tuned, plain = compiles(name, base)
        rounds = [(*spent(tuned), spent(plain)[1]) for _ in range(args.repeats + 1)][
            1:
        ]  # the first fills caches
        ours, whole, without = (1e3 * median(part) for part in zip(*rounds, strict=True))
        table.add_row(
            name, str(nodes), f"{ours:.0f}", f"{whole:.0f}", f"{100 * ours / whole:.0f}", f"{without:.0f}"
        )


if __name__ == "__main__":
    main()
