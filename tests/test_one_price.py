"""What a strategy is priced at is what the function that it builds is priced at."""

from itertools import product

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import forced, in_turn
from pytensor.assumptions import assume
from pytensor.compile.mode import Mode
from pytensor.graph.traversal import explicit_graph_inputs
from pytensor.tensor.linalg import inv, slogdet, solve

import autotune
from autotune.choose.candidates import seconds
from autotune.problem import Options
from cost_models import call, generic_profile

PROFILE = generic_profile()
# The strategies whose work does not depend on what an iteration finds.
DIRECT = ("keep", "cholesky", "cholesky_or_lu", "lu", "woodbury")
# What the two may differ by: numbers that an Op passes on, and small nodes, are not in a strategy's price.
BAND = 1.4
STRUCTURES = ("general", "definite", "low rank")
SERVED = {"cholesky": ("definite", "low rank"), "woodbury": ("low rank",)}
SMALL_NODES = 12


def matrices(n, batch):
    A = pt.tensor("A", shape=(batch, n, n) if batch > 1 else (n, n))
    U, d = pt.matrix("U", shape=(n, 4)), pt.vector("d", shape=(n,))
    found = {"general": A, "definite": assume(A, positive_definite=True)}
    return found | ({"low rank": assume(U @ U.T + pt.diag(d), positive_definite=True)} if batch == 1 else {})


REQUESTS = {
    "solve": lambda K, b: [solve(K, b, b_ndim=2)],
    "two solves": lambda K, b: [solve(K, b, b_ndim=2), solve(K, pt.exp(b), b_ndim=2)],
    "logdet": lambda K, b: [slogdet(K)[1]],
    "inverse": lambda K, b: [inv(K)],
    "solve and logdet": lambda K, b: [solve(K, b, b_ndim=2), slogdet(K)[1]],
    "all": lambda K, b: [solve(K, b, b_ndim=2), slogdet(K)[1], inv(K)],
}
SIZES = {"small": (30, 1), "large": (700, 1), "batch": (20, 200), "batch of small": (8, 5000)}
CASES = [
    pytest.param(
        *(strategy, structure, request, size),
        marks=[pytest.mark.slow] if size == "batch of small" and request != "all" else [],
    )
    for strategy, structure, request, size in product(DIRECT, STRUCTURES, REQUESTS, SIZES)
    if structure in SERVED.get(strategy, STRUCTURES) and not (structure == "low rank" and SIZES[size][1] > 1)
]


def small_nodes(count):
    return PROFILE.seconds(call("node", count=count), "float64") + PROFILE.seconds(call("call"), "float64")


@pytest.mark.parametrize(("strategy", "structure", "request_name", "size"), in_turn(CASES, 3))
def test_a_strategy_is_priced_as_the_function_that_it_builds(strategy, structure, request_name, size):
    n, batch = SIZES[size]
    K = matrices(n, batch)[structure]
    b = pt.tensor("b", shape=(batch, n, 2) if batch > 1 else (n, 2))
    mode = autotune.mode(forced(strategy), base=Mode(linker="py", optimizer="fast_run"))
    outputs = REQUESTS[request_name](K, b)
    inputs = list(explicit_graph_inputs([*outputs, b]))
    plan = autotune.explain(pytensor.function(inputs, outputs, mode=mode, on_unused_input="ignore"))
    [decision] = plan.decisions
    of_strategy = decision.candidate(strategy).seconds
    assert np.isclose(
        of_strategy,
        seconds(decision.problem, decision.assignment, Options(forced=True), PROFILE)[0],
    )
    least, most = of_strategy / BAND, of_strategy * BAND + small_nodes(SMALL_NODES)
    assert least <= plan.seconds <= most, f"{plan.seconds / of_strategy:.2f}\n{plan}"
