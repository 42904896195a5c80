"""Batches of diagonal matrices plus low rank: values and gradients of plain PyTensor, nothing n x n made."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import chosen, compile_raw, compile_with, in_turn, python_mode, relative_error
from pytensor.conditional.op import IfElse, LazyIfElse
from pytensor.graph.replace import vectorize_graph
from pytensor.graph.traversal import explicit_graph_inputs
from pytensor.tensor.linalg import cholesky, inv, slogdet, solve, solve_triangular

import autotune

NAME = "low_rank_update"
FORCED = {"rules": [{"match": {"name": "K"}, "force": NAME}]}
J, N, K = 4, 12, 2
COLUMNS = pt.as_tensor(np.random.default_rng(1).normal(size=(J, N, K)))
SHAPES = {"Z": (N, K), "U": (J, N, K), "w": (J, K), "s": (J,), "t": (), "d": (J, N), "e": (N,), "y": (J, N)}


CHOLESKY = pt.as_tensor(np.tril(np.random.default_rng(2).uniform(1, 2, size=(J, K, K))))


def variables(known=True, rank=K):
    ranks = {"Z": rank, "U": rank, "w": rank}
    free = {name: (None,) * (len(shape) - 1) + (ranks.get(name),) for name, shape in SHAPES.items() if shape}
    return {
        name: pt.tensor(name, shape=shape if known else free.get(name, ())) for name, shape in SHAPES.items()
    }


def values(seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=shape) if name in "ZUy" else rng.uniform(0.5, 2, shape)
        for name, shape in SHAPES.items()
    }


def eye(v):
    return pt.eye(v["y"].shape[-1])


def vectorized(v):
    U, d = pt.matrix("u", shape=v["U"].type.shape[1:]), pt.vector("v", shape=v["d"].type.shape[1:])
    return vectorize_graph(U @ U.T + pt.diag(d), {U: v["U"], d: v["d"]})


FORMS = {
    "U U' + s I": lambda v: v["U"] @ v["U"].mT + v["s"][:, None, None] * eye(v),
    "U U' + diag(d)": lambda v: v["U"] @ v["U"].mT + v["d"][..., None] * eye(v),
    "U U' + one diagonal": lambda v: v["U"] @ v["U"].mT + pt.diag(v["e"]),
    "s Z Z' + I": lambda v: pt.exp(v["s"])[:, None, None] * (v["Z"] @ v["Z"].T) + eye(v),
    "Z diag(w) Z'": lambda v: (v["Z"] * pt.exp(v["w"])[:, None, :]) @ v["Z"].T + v["d"][..., None] * eye(v),
    "Z W Z'": lambda v: v["Z"] @ (pt.exp(v["w"])[..., None] * pt.eye(K)) @ v["Z"].T + v["t"] ** 2 * eye(v),
    "two terms": lambda v: v["U"] @ v["U"].mT + v["Z"] @ v["Z"].T + v["d"][..., None] * eye(v),
    "outer": lambda v: v["d"][..., :, None] * v["d"][..., None, :] + pt.diag(v["e"]),
    "divided": lambda v: (
        (v["U"] @ v["U"].mT) / v["s"][:, None, None] ** 2 + eye(v) / v["s"][:, None, None] ** 2
    ),
    "equal correlations": lambda v: pt.exp(v["s"])[:, None, None] + v["d"][..., None] * eye(v),
    "constant columns": lambda v: (
        (COLUMNS * pt.exp(v["w"])[:, None, :]) @ COLUMNS.mT + v["d"][..., None] * eye(v)
    ),
    "Z L L' Z'": lambda v: v["Z"] @ CHOLESKY @ CHOLESKY.mT @ v["Z"].T + v["d"][..., None] * eye(v),
    "vectorized": vectorized,
}


def by_factor(M, y):
    L = cholesky(M)
    log_diagonal = pt.log(pt.diagonal(L, axis1=-2, axis2=-1))
    return pt.sqr(solve_triangular(L, y, lower=True, b_ndim=1)).sum() + log_diagonal.sum()


LOSSES = {
    "solve": lambda M, y: (y * solve(M, y, b_ndim=1)).sum() + slogdet(M)[1].sum(),
    "definite": lambda M, y: (y * solve(M, y, assume_a="pos", b_ndim=1)).sum() + slogdet(M)[1].sum(),
    "factor": by_factor,
    "inverse": lambda M, y: (inv(M) ** 2).sum(),
    "inverse diagonal": lambda M, y: (pt.diagonal(inv(M), axis1=-2, axis2=-1) * y).sum(),
}


def outputs(value):
    inputs = list(explicit_graph_inputs([value]))
    return inputs, [value, *pt.grad(value, inputs, disconnected_inputs="ignore")]


def compared(value, policy=FORCED, known=None):
    """The function under ``policy``, whose answers are plain PyTensor's."""
    inputs, wanted = outputs(value)
    given = [(known or values())[i.name] for i in inputs]
    fn = compile_with(inputs, wanted, policy)
    for mine, plain in zip(fn(*given), compile_raw(inputs, wanted)(*given), strict=True):
        assert mine.shape == plain.shape
        assert relative_error(mine, plain) < 1e-10
    return fn


def full_arrays(fn, order=N):
    """Batches of n x n arrays that are made whatever the values are: outside of the branch for a bad base."""
    queue, seen = [], set()
    for out in fn.maker.fgraph.outputs:
        queue.append(out)
    while queue:
        var = queue.pop()
        if var in seen or var.owner is None:
            continue
        seen.add(var)
        many = len(var.owner.outputs)
        lazy = type(var.owner.op).__name__ == "IfElse"
        queue += var.owner.inputs[: 1 + many] if lazy else var.owner.inputs
    return [var for var in seen if var.type.ndim > 2 and var.type.shape[-2:] == (order, order)]


def named(form, v):
    matrix = FORMS[form](v)
    matrix.name = "K"
    return matrix


CASES = [(form, loss) for form in FORMS for loss in LOSSES]


@pytest.mark.parametrize(("form", "loss"), in_turn(CASES, 22))
def test_value_and_gradient_are_plain_ones(form, loss):
    fn = compared(LOSSES[loss](named(form, v := variables()), v["y"]))
    assert NAME in chosen(fn)
    if "inverse" not in loss:
        assert not full_arrays(fn)


def test_an_inverse_is_differentiated_after_tune():
    value = LOSSES["inverse"](named("U U' + diag(d)", variables()), None)
    tuned = autotune.tune(value, FORCED)
    inputs, wanted = outputs(value)
    mine = compile_with(inputs, [tuned, *pt.grad(tuned, inputs, disconnected_inputs="ignore")], FORCED)
    assert NAME in chosen(mine)
    given = [values()[i.name] for i in inputs]
    for found, plain in zip(mine(*given), compile_raw(inputs, wanted)(*given), strict=True):
        assert relative_error(found, plain) < 1e-10


@pytest.mark.parametrize("form", in_turn(list(FORMS), 13))
def test_without_static_lengths(form):
    """If columns are few: by default, that has to be known."""
    assert NAME in chosen(compared(by_factor(named(form, v := variables(known=False)), v["y"])))


@pytest.mark.parametrize("form", in_turn(list(FORMS), 5))
def test_columns_of_unknown_number(form):
    fn = compared(LOSSES["solve"](named(form, v := variables(known=False, rank=None)), v["y"]))
    assert NAME in chosen(fn)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of what is not used
@pytest.mark.parametrize("tiny", [1e-14, 0.0])
def test_a_base_that_may_not_be_solved_with(tiny):
    """One matrix of the batch is nearly diagonal with tiny entries, where the rest is not."""
    v, known = variables(), values()
    known["d"][1, :K] = tiny
    compared(LOSSES["solve"](named("U U' + diag(d)", v), v["y"]), known=known)


def test_not_definite_is_nan_as_plain():
    v, known = variables(), values()
    known["d"][2] = -5.0
    inputs, wanted = outputs(by_factor(named("U U' + diag(d)", v), v["y"]))
    fn = compile_with(inputs, wanted, FORCED)
    assert np.isnan(fn(*(known[i.name] for i in inputs))[0])


def test_two_batch_axes():
    U, d, y = (
        pt.tensor("U", shape=(3, 1, N, K)),
        pt.tensor("d", shape=(2, N)),
        pt.tensor("y", shape=(3, 2, N)),
    )
    rng = np.random.default_rng(5)
    known = {
        "U": rng.normal(size=(3, 1, N, K)),
        "d": rng.uniform(1, 2, (2, N)),
        "y": rng.normal(size=(3, 2, N)),
    }
    M = U @ U.mT + d[..., None] * pt.eye(N)
    M.name = "K"
    assert NAME in chosen(compared(LOSSES["solve"](M, y), known=known))


def test_matrices_without_rows():
    U, d, y = pt.tensor3("U", shape=(None, None, K)), pt.matrix("d"), pt.matrix("y")
    M = U @ U.mT + d[..., None] * pt.eye(y.shape[-1])
    M.name = "K"
    fn = compile_with([U, d, y], by_factor(M, y), FORCED)
    assert fn(np.ones((J, 0, K)), np.ones((J, 0)), np.ones((J, 0))) == 0


def test_it_is_chosen_for_large_matrices_and_not_for_tiny_ones():
    def decided(n):
        U, d, y = (
            pt.tensor("U", shape=(30, n, 2)),
            pt.tensor("d", shape=(30, n)),
            pt.tensor("y", shape=(30, n)),
        )
        value = by_factor(U @ U.mT + d[..., None] * pt.eye(n), y)
        return chosen(pytensor.function([U, d, y], value, mode=autotune.mode(base=python_mode())))[0]

    assert decided(200) == NAME
    assert decided(3) != NAME


@pytest.mark.parametrize("loss", LOSSES)
def test_value_and_gradient_share_one_branch_that_gives_what_is_used(loss):
    """What two branches share PyTensor computes whatever is asked, and all that one returns."""
    v = variables()
    value = LOSSES[loss](named("constant columns", v), v["y"])
    fgraph = compile_with(
        [v["w"], v["d"], v["y"]], [value, *pt.grad(value, [v["w"], v["d"]])], FORCED
    ).maker.fgraph
    [branch] = [node for node in fgraph.apply_nodes if isinstance(node.op, IfElse | LazyIfElse)]
    assert all(fgraph.clients[out] for out in branch.outputs)
