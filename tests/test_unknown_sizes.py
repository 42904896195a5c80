"""Sizes that only run time tells: never slower than the graph as written, and as good as with sizes known.

The first laws are of choosing, a pure function of problems and prices; the second ones of whole graphs.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_raw, diagonal_plus_low_rank, in_turn, relative_error
from pytensor.assumptions import assume
from pytensor.compile.mode import Mode
from pytensor.link.vm import VMLinker
from pytensor.tensor.linalg import cholesky, inv, slogdet, solve, solve_triangular

import autotune
from autotune.choose import choose, seconds, with_crossover
from autotune.choose.all_sizes import Prices
from autotune.policy.files import load_policy
from autotune.problem import Options, Problem, Request, dense
from cost_models import generic_profile

PROFILE = generic_profile()
# What a call may take longer than it could: this share and this many seconds.
LOSS, NOISE = 0.05, 1e-6
# Seconds in the place of those where three sizes cross, so that the points of the grid are far apart.
OFF_THE_GRID = 1e-5
# How near the decision with sizes known comes the one without.
NEAR = 0.10

SIZES = {"n": 2000, "rank": 20, "columns": 3}
GRID = {
    "n": (1, 2, 8, 16, 64, 300, 2000, 30_000),
    "rank": (1, 5, 30, 200, 3000, 30_000),
    "columns": (1, 3, 60, 1000),
}
GENERAL = Problem(requests=(), term=dense(None))
DEFINITE = replace(GENERAL, positive_definite=True, symmetric=True)
LOW_RANK = replace(GENERAL, term=diagonal_plus_low_rank(None, None))
STRUCTURES = {
    "general": GENERAL,
    "definite": DEFINITE,
    "low rank": LOW_RANK,
    "definite low rank": replace(LOW_RANK, positive_definite=True, symmetric=True),
}
SOLVE, LOGDET = Request("solve", 1), Request("logdet", form="lu")
INVERSE, COLUMNS = Request("inverse", form="inverse"), Request("solve", None)
DIAGONAL = Request("inverse_diagonal", form="inverse")
REQUESTS = {
    "solve": (SOLVE,),
    "solve and log-determinant": (replace(SOLVE, form="inverse"), LOGDET),
    "gradient": (LOGDET, DIAGONAL, replace(SOLVE, form="inverse"), INVERSE),
    "inverse": (INVERSE,),
    "log-determinant": (LOGDET,),
    "columns": (COLUMNS, LOGDET),
    "inverse times columns": (replace(COLUMNS, form="inverse"), LOGDET),
}


def problems():
    """Every structure with all requests, each with some of its sizes unknown."""
    for (s, structure), (r, requests) in itertools.product(STRUCTURES.items(), REQUESTS.items()):
        problem = replace(structure, requests=requests)
        names = problem.unknown_sizes
        for count in range(1, len(names) + 1):
            for unknown in itertools.combinations(names, count):
                known = {name: SIZES[name] for name in names if name not in unknown}
                for differentiated in (False, True):
                    case = replace(problem.with_sizes(**known), differentiated=differentiated)
                    way = "before autodiff" if differentiated else "as it is"
                    yield pytest.param(case, id=f"{s}, {r}, {way}, without {' '.join(unknown)}")


POLICY = load_policy({}, layers=False)


def price(problem, name):
    return seconds(problem, (name,) * len(problem.requests), Options(), PROFILE)[0]


def taken(decision, sizes):
    """The strategy that serves at these sizes."""
    found = decision.crossover
    return decision.chosen if found is None else found.below if found.is_below(sizes) else found.above


@pytest.mark.parametrize("differentiated", [False, True])
@pytest.mark.parametrize("strategy", ["keep", "cholesky", "cholesky_or_lu", "lu", "woodbury"])
@pytest.mark.parametrize("requests", REQUESTS.values(), ids=REQUESTS)
def test_many_sizes_are_priced_at_once_as_one_by_one(requests, strategy, differentiated):
    problem = replace(STRUCTURES["definite low rank"], requests=requests, differentiated=differentiated)
    at_once, alone = (Prices(problem, Options(), PROFILE, 0.05) for _ in range(2))
    found = [alone.of(strategy, sizes) for sizes in alone.samples]
    assert at_once.of_samples(strategy) == pytest.approx(found, rel=1e-12)
    found = [alone.serving(strategy, sizes) for sizes in alone.samples]
    assert at_once.serving_samples(strategy) == pytest.approx(found, rel=1e-12)


@pytest.mark.parametrize("looking", [False, True], ids=["alone", "looking at sizes"])
@pytest.mark.parametrize("problem", in_turn(problems(), 9))
def test_nowhere_slower_than_keep_and_as_good_as_with_sizes(problem, looking):
    alone = choose(problem, POLICY, PROFILE)
    decision = with_crossover(alone, POLICY, PROFILE) if looking else alone
    best_everywhere = {c.name for c in alone.candidates if c.name == alone.chosen or c.could_serve}
    far = []
    for values in itertools.product(*(GRID[name] for name in problem.unknown_sizes)):
        sizes = dict(zip(problem.unknown_sizes, values, strict=True))
        sized = problem.with_sizes(**sizes)
        ours, kept = price(sized, taken(decision, sizes)), price(sized, "keep")
        bearable = NOISE if len(sizes) < 3 else OFF_THE_GRID
        assert ours <= (1 + LOSS) * kept + bearable, f"{taken(decision, sizes)} at {sizes}"
        known = price(sized, choose(sized, POLICY, PROFILE).chosen)
        far += [sizes] if ours > (1 + NEAR) * known + NOISE else []
        best_everywhere = {name for name in best_everywhere if price(sized, name) <= known + NOISE / 2}
    assert not (far and best_everywhere), f"{decision.chosen} is not best at {far}"


# -- Gaussian processes compiled without shapes ----------------------------------------------------------

ROWS, COLUMNS = 2000, 5
SHAPES = {"X": (ROWS, COLUMNS), "y": (ROWS,), "theta": (4,)}
LAZY = Mode(linker=VMLinker(use_cloop=False, c_thunks=False), optimizer="fast_run").excluding(
    "inplace", "fusion"
)


def rbf(X, theta):
    Z = X / pt.exp(theta[0])
    squares = (Z**2).sum(axis=1)
    return pt.exp(-0.5 * pt.maximum(squares[:, None] + squares[None, :] - 2 * Z @ Z.T, 0))


def noisy(K, X, theta):
    return K + theta[1] ** 2 * pt.eye(X.shape[0])


MATRICES = {
    "rbf": lambda X, theta: noisy(rbf(X, theta), X, theta),
    "tagged rbf": lambda X, theta: assume(noisy(rbf(X, theta), X, theta), positive_definite=True),
    "linear": lambda X, theta: noisy(theta[2] ** 2 * X @ X.T, X, theta),
}
RESIDUALS = {
    "y": lambda X, y, theta: y,
    "y - c": lambda X, y, theta: y - theta[3],
    "y - zeros": lambda X, y, theta: y - pt.zeros(X.shape[0]),
    "y - X w": lambda X, y, theta: y - X @ (theta[3] * pt.ones(X.shape[1])),
}


def by_cholesky(K, r):
    L = cholesky(K)
    return pt.sqr(solve_triangular(L, r, lower=True)).sum() + 2 * pt.log(pt.diagonal(L)).sum()


LIKELIHOODS = {
    "inv": lambda K, r: r @ inv(K) @ r + slogdet(K)[1],
    "solve": lambda K, r: r @ solve(K, r, assume_a="pos") + slogdet(K)[1],
    "cholesky": by_cholesky,
}


def gaussian_process(matrix, residual, likelihood, inputs, tuned=False):
    """A marginal likelihood as the ptgp library writes it, with its gradient."""
    X, y, theta = inputs
    f = LIKELIHOODS[likelihood](MATRICES[matrix](X, theta), RESIDUALS[residual](X, y, theta))
    f = autotune.tune(f) if tuned else f
    return [f, pt.grad(f, theta)]


def as_shared(name, shape):
    return pytensor.shared(np.ones(shape), name=name, shape=(None,) * len(shape))


WAYS = {
    "static": lambda name, shape: pt.tensor(name, shape=shape),
    "shared": as_shared,
    "examples": lambda name, shape: pt.tensor(name, shape=(None,) * len(shape)),
    "unknown": lambda name, shape: pt.tensor(name, shape=(None,) * len(shape)),
}


def compiled_with(way, *model, tuned):
    variables = [WAYS[way](name, shape) for name, shape in SHAPES.items()]
    examples = {name: np.ones(shape) for name, shape in SHAPES.items()} if way == "examples" else None
    inputs = [] if way == "shared" else variables
    mode = autotune.mode(base=LAZY, example_inputs=examples)
    outputs = gaussian_process(*model, variables, tuned=tuned)
    return pytensor.function(inputs, outputs, mode=mode, on_unused_input="ignore")


MODELS = [
    ("tagged rbf", "y", "inv"),
    ("tagged rbf", "y - c", "inv"),
    ("tagged rbf", "y - zeros", "solve"),
    ("rbf", "y - X w", "inv"),
    ("rbf", "y - c", "cholesky"),
    ("linear", "y - c", "solve"),
    ("linear", "y - X w", "inv"),
]


@pytest.mark.parametrize(("model", "tuned"), in_turn(itertools.product(MODELS, [False, True]), 9), ids=str)
def test_a_gaussian_process_gets_what_it_gets_with_static_shapes(model, tuned):
    functions = {way: compiled_with(way, *model, tuned=tuned) for way in WAYS}
    sizes = {"n": ROWS, "rank": COLUMNS, "columns": 1}
    served = {
        way: [taken(decision, sizes) for decision in autotune.explain(fn).decisions]
        for way, fn in functions.items()
    }
    assert served == dict.fromkeys(WAYS, served["static"])
    assert "keep" not in served["static"]
    rng = np.random.default_rng(0)
    variables = [WAYS["unknown"](name, shape) for name, shape in SHAPES.items()]
    plain = compile_raw(variables, gaussian_process(*model, variables))
    for rows, columns in ((30, 3), (3, 1), (2, 4)):
        values = rng.normal(size=(rows, columns)), rng.normal(size=rows), np.array([0.1, 0.7, 0.9, 0.3])
        for actual, wanted in zip(functions["unknown"](*values), plain(*values), strict=True):
            assert relative_error(actual, wanted) < 1e-9


@pytest.mark.parametrize("spelled", RESIDUALS)
def test_one_vector_is_one_column_however_it_is_spelled(spelled):
    X, y, theta = (WAYS["unknown"](name, shape) for name, shape in SHAPES.items())
    K, r = MATRICES["tagged rbf"](X, theta), RESIDUALS[spelled](X, y, theta)
    values = [
        *(r @ inv(K) @ r, inv(K) @ (-r / 2), solve(K, r[:, None] / theta[2], assume_a="pos")),
        *(r[None, :] @ inv(K), solve(K, -r), (theta[3] * r) @ solve(K, r), inv(K).T @ r[:, None]),
    ]
    fn = pytensor.function([X, y, theta], values, mode=autotune.mode(base=LAZY), on_unused_input="ignore")
    [decision] = autotune.explain(fn).decisions
    assert [(r.kind, r.columns) for r in decision.problem.requests] == [("solve", 1)]
    numbers = np.random.default_rng(0).normal(size=(9, 2)), np.arange(9.0), np.array([0.1, 0.7, 0.9, 0.3])
    for actual, wanted in zip(fn(*numbers), compile_raw([X, y, theta], values)(*numbers), strict=True):
        assert relative_error(actual, wanted) < 1e-9


def test_vectors_that_differ_are_columns_of_their_own():
    X, y, theta = (WAYS["unknown"](name, shape) for name, shape in SHAPES.items())
    K, m = MATRICES["tagged rbf"](X, theta), pt.vector("m")
    vectors = [y - m, y + m, y - 1, y - 2, y - m[::-1], y - pt.arange(9.0), y - np.arange(9.0)[::-1].copy()]
    values = [inv(K) @ v for v in vectors]
    fn = pytensor.function([X, y, m, theta], values, mode=autotune.mode(base=LAZY))
    [decision] = autotune.explain(fn).decisions
    assert len(decision.problem.requests) == len(vectors)
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(9, 2)), rng.normal(size=9), rng.normal(size=9), np.array([0.1, 0.7, 0.9, 0.3])
    for actual, wanted in zip(fn(*numbers), compile_raw([X, y, m, theta], values)(*numbers), strict=True):
        assert relative_error(actual, wanted) < 1e-9
