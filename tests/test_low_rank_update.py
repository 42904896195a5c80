"""A low-rank update of a Kronecker product or a block-diagonal matrix, by requests on that base.

Value and gradient are those of plain PyTensor on the sum, also where the base is singular.
"""

import pickle
from functools import cache

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_plain, compile_with, in_turn, python_mode, relative_error, spd
from pytensor.compile.mode import Mode
from pytensor.conditional.op import IfElse
from pytensor.graph.replace import vectorize_graph
from pytensor.graph.traversal import apply_ancestors
from pytensor.link.vm import VMLinker
from pytensor.tensor.linalg import Cholesky, block_diag, cholesky, inv, kron, slogdet, solve, solve_triangular

import autotune

NAME = "low_rank_update"
BASES = ["block_diagonal", "kronecker"]
UPDATE = {"rules": [{"match": {"structure": BASES}, "forbid": ["keep", "cholesky", "lu", "cholesky_or_lu"]}]}
K = 2


def values(n, dtype="float64"):
    rng = np.random.default_rng(n)
    found = [spd(3, rng), spd(4, rng), rng.normal(size=(n, K)), rng.normal(size=(n, K)), rng.uniform(1, 2, K)]
    return [v.astype(dtype) for v in (*found, rng.normal(size=n))]


def variables(n, known=True, dtype="float64"):
    shapes = [(3, 3), (4, 4), (n, K), (n, K), (K,), (n,)]
    free = [(None, None), (None, None), (None, K), (None, K), (K,), (None,)]
    pairs = zip("ABUVcy", shapes if known else free, strict=True)
    return [pt.tensor(name, dtype=dtype, shape=shape) for name, shape in pairs]


def symmetric(X):
    return (X + X.T) / 2


FORMS = {
    "blocks": (7, lambda A, B: block_diag(A, B)),
    "product": (12, lambda A, B: kron(A, B)),
    "scaled product": (12, lambda A, B: 2 * kron(A, B)),
    "blocks of products": (15, lambda A, B: block_diag(kron(A, B), A)),
}
UPDATES = {
    "U U'": lambda U, V, c: U @ U.T,
    "U diag(c) U'": lambda U, V, c: (U * pt.exp(c)) @ U.T,
    "of any sign": lambda U, V, c: (U * (c - 1.4)) @ U.T / 50,
    "subtracted": lambda U, V, c: -(0.01 * U @ U.T),
    "two terms": lambda U, V, c: U @ U.T + V[:, :1] @ V[:, :1].T,
    "U V'": lambda U, V, c: U @ V.T / 50,
    "outer": lambda U, V, c: pt.outer(U[:, 0], U[:, 0]),
}


def by_factor(M, y):
    L = cholesky(M)
    value = pt.sqr(solve_triangular(L, y, lower=True)).sum() + pt.log(pt.diagonal(L)).sum()
    return pt.switch(pt.all(pt.diagonal(L) > 0), value, np.nan)


LOSSES = {
    "solve": lambda M, y: y @ solve(M, y) + slogdet(M)[1],
    "transposed": lambda M, y: (solve(M.T, pt.stack([y, y**2], axis=1)) ** 2).sum(),
    "inverse": lambda M, y: (inv(M) ** 2).sum(),
    "inverse diagonal": lambda M, y: (pt.diagonal(inv(M)) * y).sum(),
    "definite": lambda M, y: y @ solve(M, y, assume_a="pos") + slogdet(M)[1],
    "factor": by_factor,
}
OF_A_FACTOR = ("definite", "factor")
SEMIDEFINITE = ("U U'", "U diag(c) U'", "two terms", "outer")
CASES = [
    (form, update, loss)
    for form in FORMS
    for update in UPDATES
    for loss in LOSSES
    if loss not in OF_A_FACTOR or update in SEMIDEFINITE
]


def outputs(form, update, loss, inputs, base=symmetric):
    A, B, U, V, c, y = inputs
    M = FORMS[form][1](base(A), base(B)) + UPDATES[update](U, V, c)
    return LOSSES[loss](M, y)


def with_gradient(value, inputs):
    return [value, *pt.grad(value, inputs, disconnected_inputs="ignore")]


@cache
def both(loss):
    """Value and gradient of ``loss`` of blocks with an update: by it, and by plain PyTensor."""
    inputs = variables(7)
    outs = with_gradient(outputs("blocks", "U U'", loss, inputs), inputs)
    return compile_with(inputs, outs, UPDATE), compile_plain(inputs, outs)


def names(fn):
    return [d.chosen for d in autotune.explain(fn).decisions]


def assert_same(found, right, tolerance=1e-10):
    for mine, plain in zip(found, right, strict=True):
        assert (mine.shape, mine.dtype) == (plain.shape, plain.dtype)
        assert relative_error(mine, plain) < tolerance


@pytest.mark.parametrize(
    ("form", "update", "loss", "tuned"),
    in_turn([(*case, tuned) for case in CASES for tuned in (True, False)], 125),
)
def test_value_and_gradient_are_those_of_the_sum(form, update, loss, tuned):
    n = FORMS[form][0]
    inputs = variables(n)
    plain = outputs(form, update, loss, inputs)
    value = autotune.tune(plain, UPDATE) if tuned else plain
    fn = compile_with(inputs, with_gradient(value, inputs), UPDATE)
    assert NAME in names(fn)
    assert_same(fn(*values(n)), compile_plain(inputs, with_gradient(plain, inputs))(*values(n)))


@pytest.mark.parametrize(
    ("form", "loss"), in_turn([(form, loss) for form in FORMS for loss in ("solve", "factor")], 14)
)
def test_without_static_orders(form, loss):
    n = FORMS[form][0]
    inputs = variables(n, known=False)
    value = outputs(form, "U U'", loss, inputs)
    base = python_mode().excluding("BlasOpt")  # PyTensor 3.3.8 cannot run the shape of a product of a Gemm
    fn = compile_with(inputs, with_gradient(value, inputs), UPDATE, base)
    assert NAME in names(fn)
    assert_same(fn(*values(n)), compile_plain(inputs, with_gradient(value, inputs), base)(*values(n)))


# -- a base that may not be solved with -------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["solve", "factor"])
def test_as_exact_as_plain_where_the_base_is_nearly_singular(loss):
    """The update fills what the base lacks: the sum is well conditioned."""
    rng = np.random.default_rng(8)
    Q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    given = values(7)
    given[2][:3, 0] = 3 * Q[:, 2]
    fn, plain = both(loss)
    assert NAME in names(fn)
    for smallest in (1.0, 1e-4, 1e-8, 1e-12, 0.0):
        given[0] = (Q * np.array([1, 2, smallest])) @ Q.T
        assert_same(fn(*given), plain(*given), 1e-12)


def test_a_base_without_a_factor_and_a_sum_with_one():
    given = values(7)
    given[0] = np.diag([1.0, 2.0, -0.5])
    given[2][:3, 0] = [0, 0, 3]
    fn, plain = both("factor")
    found = fn(*given)
    assert np.isfinite(found[0])
    assert_same(found, plain(*given))
    given[2][:] = 0  # neither has one
    assert np.isnan(plain(*given)[0])
    assert np.isnan(fn(*given)[0])


def test_weights_of_unknown_sign_are_looked_at_when_the_function_runs():
    """With a negative one the sum may have no factor where the base has one."""
    inputs, given = variables(7), values(7)
    A, B, U, _, c, y = inputs
    value = by_factor(block_diag(symmetric(A), symmetric(B)) + (U * c) @ U.T, y)
    outs = with_gradient(value, inputs)
    fn, plain = compile_with(inputs, outs, UPDATE), compile_plain(inputs, outs)
    assert NAME in names(fn)
    for weights in ([0.5, 2.0], [-0.01, 1.0], [0.0, 1.0], [-9.0, 1.0], [np.nan, 1.0]):
        given[4] = np.array(weights)
        found, right = fn(*given), plain(*given)
        assert np.isfinite(found[0]) == (min(weights) > -1)
        if np.isfinite(found[0]):
            assert_same(found, right)


def test_a_lazy_linker_factorises_the_sum_only_where_it_must(monkeypatch):
    orders, perform = [], Cholesky.perform

    def counted(self, node, inputs, outputs):
        orders.append(inputs[0].shape[-1])
        return perform(self, node, inputs, outputs)

    monkeypatch.setattr(Cholesky, "perform", counted)
    inputs, given = variables(7), values(7)
    value = outputs("blocks", "U U'", "factor", inputs)
    base = Mode(VMLinker(use_cloop=False), "fast_run").excluding("inplace", "fusion")
    fn = compile_with(inputs, value, UPDATE, base)
    fn(*given)
    assert 7 not in orders
    given[0] = np.zeros((3, 3))
    fn(*given)
    assert 7 in orders


# -- the edges ----------------------------------------------------------------------------------------------


def test_single_precision():
    inputs = variables(7, dtype="float32")
    value = outputs("blocks", "U U'", "solve", inputs)
    fn = compile_with(inputs, with_gradient(value, inputs), UPDATE)
    plain = compile_plain(inputs, with_gradient(value, inputs))
    assert NAME in names(fn)
    assert_same(fn(*values(7, "float32")), plain(*values(7, "float32")), 1e-4)


@pytest.mark.slow
def test_a_second_derivative():
    inputs = variables(7)
    value = outputs("blocks", "U diag(c) U'", "solve", inputs)

    def curvature(value):
        slopes = pt.grad(value, inputs[2:5:2])
        return pt.grad(sum((g**2).sum() for g in slopes), inputs, disconnected_inputs="ignore")

    tuned = autotune.tune(value, UPDATE)
    fn = compile_with(inputs, curvature(tuned), UPDATE)
    assert NAME in names(fn)
    assert_same(fn(*values(7)), compile_plain(inputs, curvature(value))(*values(7)), 1e-8)


@pytest.mark.parametrize("of", [["x"], ["U", "d", "x"]], ids="_".join)
def test_second_derivatives_of_what_is_linear_in_a_right_hand_side(of):
    """Its cotangents are made of each other, and some do not depend on the right-hand side."""
    shapes = {"U": (2, 4, 1), "d": (2, 1, 1), "x": (2, 4)}
    inputs = {name: pt.tensor(name, shape=shape) for name, shape in shapes.items()}
    U, d, x = inputs.values()
    value = solve(U @ U.mT + pt.exp(d) * pt.eye(4), x, b_ndim=1)[:, 0].sum()
    policy = {"rules": [{"match": {"structure": "low_rank"}, "force": NAME}]}

    def products(value):
        slopes = pt.grad(value, [inputs[name] for name in of])
        return pt.grad(sum((g * pt.cos(pt.arange(g.size)).reshape(g.shape)).sum() for g in slopes), [U, d])

    tuned, plain = (
        pytensor.function([U, d, x], products(v), mode=python_mode(), on_unused_input="ignore")
        for v in (autotune.tune(value, policy), value)
    )
    rng = np.random.default_rng(0)
    point = [rng.normal(size=shape) for shape in shapes.values()]
    for found, expected in zip(tuned(*point), plain(*point), strict=True):
        assert relative_error(found, expected) < 1e-11


def test_a_batch_of_what_was_tuned():
    inputs = variables(7)
    value = outputs("blocks", "U U'", "solve", inputs)
    many = pt.tensor("many", shape=(3, 7), dtype="float64")
    ours, plain = (
        vectorize_graph(with_gradient(v, inputs[:3]), {inputs[-1]: many})
        for v in (autotune.tune(value, UPDATE), value)
    )
    given = [*values(7)[:-1], np.random.default_rng(0).normal(size=(3, 7))]
    given_to = [*inputs[:-1], many]
    assert_same(compile_with(given_to, ours, UPDATE)(*given), compile_plain(given_to, plain)(*given))


def test_a_right_hand_side_of_another_length_is_refused():
    inputs = variables(7, known=False)
    fn = compile_with(inputs, outputs("blocks", "U U'", "solve", inputs), UPDATE)
    given = values(7)
    for order in (6, 8):
        with pytest.raises(Exception, match=r"."):
            fn(*given[:-1], np.ones(order))


def test_plain_pytensor_runs_what_was_tuned():
    """Without the pass, from a pickle, and under a mode with few rewrites."""
    inputs = variables(7)
    value = outputs("blocks", "U U'", "solve", inputs)
    tuned = with_gradient(autotune.tune(value, UPDATE), inputs)
    right = both("solve")[1](*values(7))
    again_inputs, again = pickle.loads(pickle.dumps((inputs, tuned)))
    for given_to, outs, optimizer in ((inputs, tuned, "fast_compile"), (again_inputs, again, None)):
        fn = pytensor.function(given_to, outs, mode=Mode("py", optimizer), on_unused_input="ignore")
        assert_same(fn(*values(7)), right)


def test_a_saved_plan_compiles_again(tmp_path, caplog):
    inputs = variables(7)
    outs = with_gradient(outputs("blocks", "U U'", "solve", inputs), inputs)
    fn, _ = both("solve")
    again = compile_with(inputs, outs, autotune.explain(fn).save(tmp_path / "pins.yaml"))
    assert "finds nothing" not in caplog.text
    assert names(again) == names(fn)
    assert_same(again(*values(7)), fn(*values(7)))


def test_what_is_not_worth_it_says_why():
    inputs = variables(7)
    A, B, U, V, _, y = inputs
    wide = pt.concatenate([U, V], axis=1)
    cases = {
        "rank": (solve(block_diag(A, B) + wide @ wide.T, y), "its rank is not far below its order"),
        "sign": (
            by_factor(kron(symmetric(A), symmetric(B)) - pt.ones((12, 1)) @ pt.ones((1, 12)), pt.ones(12)),
            "",
        ),
    }
    for value, _ in cases.values():
        fn = compile_with(inputs, value)
        assert NAME not in names(fn)
        assert not any(isinstance(node.op, IfElse) for node in fn.maker.fgraph.apply_nodes)


def test_value_and_gradient_are_one_branch():
    """What several would share PyTensor's Numba linker computes whether it is needed or not."""
    inputs = variables(7)
    f = outputs("blocks", "U U'", "factor", inputs)
    value = f**2 + pt.exp(-(f**2))
    fn = compile_with(inputs, with_gradient(value, inputs), UPDATE)
    nodes = fn.maker.fgraph.toposort()
    [node] = [node for node in nodes if isinstance(node.op, IfElse)]
    direct = node.inputs[1 + len(node.outputs) :]
    only_there = set(apply_ancestors(direct)) - set(apply_ancestors(node.inputs[: 1 + len(node.outputs)]))
    whole = [n for n in nodes if isinstance(n.op, Cholesky) and n.inputs[0].type.shape == (7, 7)]
    assert whole
    assert only_there.issuperset(whole)
    assert_same(fn(*values(7)), compile_plain(inputs, with_gradient(value, inputs))(*values(7)))
