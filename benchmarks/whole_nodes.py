"""One compiled function node by node: predicted against measured seconds, to find what is priced wrong.

    python benchmarks/whole_nodes.py 16 [--seed 0]     # the problem's number in whole_functions.py, less one

Each node is compiled alone and timed on the values that reach it; what it overwrites is copied before every
timed call. The call of a function that does nothing is subtracted, so nodes below a microsecond mean little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytensor
from pytensor.compile.io import In, Out
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Constant
from tables import MarkdownTable
from whole_problems import LARGEST, problem

from autotune.pricing import ExampleSizes, price_by_node
from autotune.report.inside import compiled_function
from calibration.worker import silence_numpy_threads
from cost_models import Profile, find_profile

FEWEST, SECONDS = 5, 0.3


def by_node(fn: Any, arguments: list[Any], profile: Profile) -> Iterator[tuple[str, float | None, float]]:
    """(Op, predicted, measured seconds) of every node, in the order of running."""
    fgraph = compiled_function(fn).maker.fgraph
    predicted = price_by_node(fgraph, ExampleSizes(fgraph, arguments), profile)
    idle = least_seconds(_idle(), [np.ones((2, 2))], [False])
    values: dict[Any, Any] = dict(zip(fgraph.inputs, map(np.array, arguments), strict=True))
    for node in fgraph.toposort():
        given = [v for v in node.inputs if not isinstance(v, Constant)]
        overwritten = {node.inputs[i] for sources in node.op.destroy_map.values() for i in sources}
        call, inputs = alone(node), [values[v] for v in given]
        seconds = least_seconds(call, inputs, [v in overwritten for v in given])
        # The real run comes last and on the values themselves: views of what it overwrites must see it.
        values |= dict(zip(node.outputs, call(*inputs), strict=True))
        yield str(node.op), predicted[node].seconds, max(seconds - idle, 0.0)


def alone(node: Any) -> Callable[..., Any]:
    """The node as a function of its inputs, with nothing rewritten, checked or copied."""
    inputs = [v if isinstance(v, Constant) else v.type() for v in node.inputs]
    outputs = node.clone_with_new_inputs(inputs).outputs
    call = pytensor.function(
        [In(v, mutable=True, borrow=True) for v in inputs if not isinstance(v, Constant)],
        [Out(v, borrow=True) for v in outputs],
        mode=Mode("numba", None),
        accept_inplace=True,
    )
    call.trust_input = True
    return call


def _idle() -> Callable[..., Any]:
    x = pytensor.tensor.matrix("x")
    return pytensor.function([In(x, borrow=True)], Out(x, borrow=True), mode=Mode("numba", None))


def least_seconds(call: Callable[..., Any], inputs: list[Any], copied: list[bool]) -> float:
    """The least of some calls in a row, after one that compiles."""
    samples: list[float] = []
    started = time.perf_counter()
    while len(samples) <= FEWEST or time.perf_counter() - started < SECONDS:
        arguments = [x.copy(order="K") if c else x for x, c in zip(inputs, copied, strict=True)]
        before = time.perf_counter()
        call(*arguments)
        samples.append(time.perf_counter() - before)
    return min(samples[1:])


def print_nodes(index: int, seed: int, largest: int, shown: int = 12) -> None:
    """The dearest nodes of a problem."""
    drawn = problem(index, seed, largest)
    rows = list(by_node(drawn.compile(), drawn.values, find_profile()))
    print(f"\n{drawn.label}: {1e6 * sum(row[2] for row in rows):.4g} us in {len(rows)} nodes\n")
    table = MarkdownTable("node", "predicted (us)", "measured (us)")
    for name, predicted, measured in sorted(rows, key=lambda row: -row[2])[:shown]:
        said = "unknown" if predicted is None else f"{1e6 * predicted:.1f}"
        table.add_row(name[:60], said, f"{1e6 * measured:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("problems", type=int, nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--largest", type=int, default=LARGEST)
    given = parser.parse_args()
    silence_numpy_threads()
    for index in given.problems:
        print_nodes(index, given.seed, given.largest)


if __name__ == "__main__":
    main()
