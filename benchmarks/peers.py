"""Structured Gaussian log-densities, value and gradient: ours, code by hand, other libraries, side by side.

    python benchmarks/peers.py [--only packed Kronecker] [--n 300 1000] [--without glimix-core ...]

The cases are those of ``structures.py``. All ways are called in alternation in one process; a cell is
milliseconds and the relative error against extended precision, of the value or of the worst derivative.
A library that cannot be imported is left out, which is said. What is wanted, beside the project itself:

    pip install jax cola-ml gpjax linear_operator glimix-core
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from peer_libraries import LIBRARIES, dense
from peer_matrices import MATRICES, Matrix
from structures import CASES, Case
from tables import MarkdownTable
from timing import alternate

import autotune

LARGEST_REFERENCE = 1500
"""Sizes above have no column of errors: n steps over n x n entries in extended precision take minutes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="what the names of the cases begin with")
    parser.add_argument("--n", type=int, nargs="+", default=[300, 1000])
    parser.add_argument("--without", nargs="+", default=[], choices=LIBRARIES, help="libraries to leave out")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds of calls for each row")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # of the libraries, on their own deprecated calls and their CG
    libraries = importable({k: v for k, v in LIBRARIES.items() if k not in arguments.without})
    table = MarkdownTable("matrix", "n", "of", "autotune", "by hand", "dense", *libraries)
    for name, matrix in MATRICES.items():
        for n in arguments.n if name.startswith(tuple(arguments.only)) else ():
            case = CASES[name](n, np.random.default_rng(0))
            add_rows(table, name, case, matrix, libraries, arguments.budget)


def importable(libraries: Mapping[str, Callable]) -> dict[str, Callable]:
    """What makes the functions of each library that is there; a line for each that is not."""
    found = {}
    for name, load in libraries.items():
        try:
            found[name] = load()
        except ImportError as error:
            print(f"{name} is left out: {error}")
    return found


def add_rows(
    table: MarkdownTable,
    name: str,
    case: Case,
    matrix: Matrix,
    libraries: Mapping[str, Callable],
    budget: float,
) -> None:
    """A row for the value and one for the value with its gradient."""
    values = tuple(case.inputs.values())
    n = len(values[-1])
    exact = reference(matrix, case) if n <= LARGEST_REFERENCE else None
    for gradient in (False, True):
        functions = {"autotune": ours(case, gradient)}
        if gradient:
            functions["by hand"] = case.by_hand
        functions["dense"] = partial(dense, matrix, case, gradient)
        functions |= {key: make(name, matrix, case, gradient) for key, make in libraries.items()}
        functions = {key: fn for key, fn in functions.items() if fn is not None}
        errors = {key: error_of(fn(*values), exact) for key, fn in functions.items()}
        seconds = alternate(functions, values, budget=budget)
        cells = [
            f"{1e3 * seconds[key]:.3g} ({errors[key]:.0e})" if key in seconds else ""
            for key in ("autotune", "by hand", "dense", *libraries)
        ]
        table.add_row(name, str(n), "value, gradient" if gradient else "value", *cells)


def ours(case: Case, gradient: bool) -> Callable[..., Any]:
    inputs = list(case.inputs)
    outputs = [case.loss, *(pt.grad(case.loss, inputs) if gradient else ())]
    return pytensor.function(inputs, outputs, mode=autotune.mode(), trust_input=True)


def reference(matrix: Matrix, case: Case) -> list[np.ndarray]:
    """Value and derivatives in extended precision (``longdouble``), from the dense matrix."""
    constants, inputs = (
        [np.asarray(x, np.longdouble) for x in xs] for xs in (case.constants, case.inputs.values())
    )
    *parameters, y = inputs
    inverse, logdet = inverse_and_logdet(matrix.dense(np, constants, *parameters))
    alpha = inverse @ y
    K_bar = -0.5 * (inverse - np.outer(alpha, alpha))
    return [-0.5 * (logdet + y @ alpha), *matrix.pull(K_bar, constants, *parameters), -alpha]


def inverse_and_logdet(K: np.ndarray) -> tuple[np.ndarray, np.floating]:
    """Gauss and Jordan's sweeps of a positive definite K, in its own precision: LAPACK has double at most."""
    K, logdet = K.copy(), K.dtype.type(0)
    for i in range(len(K)):
        pivot, column = K[i, i], K[:, i].copy()
        logdet += np.log(pivot)
        row = K[i] / pivot
        K -= column[:, None] * row
        K[i], K[:, i], K[i, i] = row, -column / pivot, 1 / pivot
    return K, logdet


def error_of(found: Any, exact: list[np.ndarray] | None) -> float:
    """The worst of the outputs: largest difference over largest entry. nan if nothing is known."""
    if exact is None:
        return np.nan
    return max(
        float(np.abs(np.asarray(x) - reference).max() / np.abs(reference).max())
        for x, reference in zip(found, exact, strict=False)
    )


if __name__ == "__main__":
    main()
