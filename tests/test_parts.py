"""Kronecker products and block-diagonal matrices, served by requests on their factors and blocks.

Whatever is asked of one, its value and its gradient are those of plain PyTensor on the dense matrix.
"""

import itertools
import pickle

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import (
    compile_plain,
    compile_with,
    in_turn,
    largest_array,
    python_mode,
    relative_error,
    spd,
)
from pytensor.assumptions import assume
from pytensor.compile.mode import Mode
from pytensor.tensor.linalg import (
    block_diag,
    cho_solve,
    cholesky,
    det,
    inv,
    kron,
    slogdet,
    solve,
    solve_triangular,
)

import autotune

pytestmark = pytest.mark.filterwarnings("ignore:An ill-conditioned matrix")  # that of NaN

COMPOSITES = ("kronecker", "block_diagonal")
OTHERS = [s.name for s in autotune.strategies.STRATEGIES if s.name not in COMPOSITES]
BY_PARTS = {"rules": [{"match": {"structure": list(COMPOSITES)}, "forbid": OTHERS}]}

A, B, C = pt.matrix("A", shape=(4, 4)), pt.matrix("B", shape=(3, 3)), pt.matrix("C", shape=(2, 2))
U, d = pt.matrix("U", shape=(5, 1)), pt.vector("d", shape=(5,))
s = pt.scalar("s")
INPUTS = [A, B, C, U, d, s]
thin = pt.diag(d) + U @ U.T
MATRICES = {
    "kron": lambda A, B, C: kron(A, B),
    "kron of three": lambda A, B, C: kron(kron(A, C), B),
    "kron of thin": lambda A, B, C: kron(thin, B),
    "kron with thin": lambda A, B, C: kron(B, thin),
    "identity first": lambda A, B, C: kron(pt.eye(3), A),
    "identity last": lambda A, B, C: kron(A, pt.eye(3)),
    "diagonal first": lambda A, B, C: kron(pt.diag(d), B),
    "scaled": lambda A, B, C: s * kron(A, B),
    "divided": lambda A, B, C: kron(A, B) / s,
    "factor scaled": lambda A, B, C: kron(s * A, B / 2),
    "transposed": lambda A, B, C: kron(A, B).T,
    "factor transposed": lambda A, B, C: kron(A.T, B),
    "of one number": lambda A, B, C: kron(pt.exp(s)[None, None], A),
    "blocks": lambda A, B, C: block_diag(A, B),
    "three blocks": lambda A, B, C: block_diag(A, C, B),
    "one block": lambda A, B, C: block_diag(A),
    "blocks of blocks": lambda A, B, C: block_diag(block_diag(A, C), B),
    "block of kron": lambda A, B, C: block_diag(kron(A, C), B),
    "block of thin": lambda A, B, C: block_diag(thin, C, A),
    "block of a diagonal": lambda A, B, C: block_diag(pt.diag(d), A),
    "block of one number": lambda A, B, C: block_diag(s[None, None], A, B),
    "the same block": lambda A, B, C: block_diag(A, B, A),
    "kron of blocks": lambda A, B, C: kron(C, block_diag(A, B)),
    "blocks scaled": lambda A, B, C: -2 * block_diag(-A, -s * B),
    "blocks transposed": lambda A, B, C: s * block_diag(A.T, B).T,
}
# Made symmetric, so that there is one gradient: of a matrix that is only said to be, any part of it counts.
FACTS = {
    "none": lambda X: X,
    "symmetric": lambda X: (X + X.T) / 2,
    "definite": lambda X: assume((X + X.T) / 2, positive_definite=True),
}


def made(form, facts="none"):
    return MATRICES[form](*(FACTS[facts](X) for X in (A, B, C)))


def order_of(matrix):
    return matrix.type.shape[0] or compile_plain(INPUTS, matrix.shape[0])(*values())


def values(seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    matrices = [spd(n, rng) for n in (4, 3, 2)]
    rest = [rng.normal(size=(5, 1)), rng.uniform(0.5, 2, 5), np.array(1.3)]
    return [np.asarray(value, dtype) for value in (*matrices, *rest)]


def requests(K, n):
    """Everything that may be asked of a matrix, which is positive definite."""
    rng = np.random.default_rng(1)
    y, Y, stack = (pt.constant(rng.normal(size=shape).astype(K.dtype)) for shape in ((n,), (n, 3), (2, n, 2)))
    return {
        "solve": solve(K, y),
        "solve matrix": solve(K, Y),
        "solve stack": solve(K, stack),
        "solve stacked vectors": solve(K, stack.mT, b_ndim=1),
        "solve transposed": solve(K.T, Y),
        "solve sym": solve(K, y, assume_a="sym"),
        "inverse times": inv(K) @ Y,
        "times inverse": Y.T @ inv(K),
        "quadratic form": y @ inv(K) @ y,
        "sign": slogdet(K)[0],
        "logdet": slogdet(K)[1],
        "log of det": pt.log(det(K)),
        "determinant": det(K),
        "inverse": inv(K),
        "inverse diagonal": pt.diagonal(inv(K)),
        "trace of inverse": pt.trace(inv(K)),
    }


def factor_requests(K, n):
    """What is asked of a Cholesky factor."""
    rng = np.random.default_rng(2)
    y, Y = (pt.constant(rng.normal(size=shape).astype(K.dtype)) for shape in ((n,), (n, 2)))
    L = cholesky(K)
    return {
        "pos": solve(K, y, assume_a="pos"),
        "cho_solve": cho_solve((L, True), Y, b_ndim=2),
        "whitened square": pt.sqr(solve_triangular(L, y, lower=True)).sum(),
        "whitened squares": pt.sqr(solve_triangular(L, Y, lower=True)).sum(axis=0),
        "log of factor": pt.log(pt.diagonal(L)).sum(),
        "is definite": pt.all(pt.diagonal(L) > 0),
    }


def assert_equal(mine, plain, names, tolerance=1e-9):
    for name, one, other in zip(names, mine, plain, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(np.isnan(one), np.isnan(other)), f"{name}: {one}, PyTensor {other}"
        if not np.isnan(other).any():
            assert relative_error(one, other) < tolerance, f"{name}: {one}, PyTensor {other}"


def strategies(fn):
    """The strategies of all decisions and of their parts."""
    left, found = list(autotune.explain(fn).decisions), []
    while left:
        decision = left.pop()
        found.append(decision.chosen)
        left += decision.parts
    return found


KINDS = {"matrix": requests, "factor": factor_requests}
PLAIN = ("one block",)
CASES = [(form, facts, kind) for form in MATRICES for facts in FACTS for kind in KINDS]
OF_GRADIENTS = [case for case in CASES if case[1:] not in (("none", "factor"), ("symmetric", "matrix"))]


@pytest.mark.parametrize(("form", "facts", "kind"), in_turn(CASES, every=30))
def test_values(form, facts, kind):
    K = made(form, facts)
    asked = KINDS[kind](K, order_of(K))
    fn = compile_with(INPUTS, list(asked.values()), BY_PARTS)
    assert_equal(fn(*values()), compile_plain(INPUTS, list(asked.values()))(*values()), asked)
    proven = kind == "matrix" or facts != "none"
    assert bool({*COMPOSITES} & {*strategies(fn)}) == (proven and form not in PLAIN)


def loss_of(outputs):
    """A sum of all outputs that are numbers, in which no two entries weigh the same."""
    rng = np.random.default_rng(3)
    numbers = [out for out in outputs if out.dtype != "bool"]
    weights = [pt.constant(rng.uniform(0.5, 1, size=out.type.shape).astype(out.dtype)) for out in numbers]
    return sum((w * out).sum() for w, out in zip(weights, numbers, strict=True))


def gradients(loss, inputs=INPUTS):
    return pt.grad(loss, inputs, disconnected_inputs="ignore")


@pytest.mark.parametrize(("form", "facts", "kind"), in_turn(OF_GRADIENTS, every=40))
def test_gradients(form, facts, kind):
    K = made(form, facts)
    asked = KINDS[kind](K, order_of(K))
    if facts == "none":
        del asked["solve sym"]  # any antisymmetric part of its gradient is right, and rewrites choose one
    loss = loss_of(asked.values())
    tuned = autotune.tune(loss, BY_PARTS)
    fn = compile_with(INPUTS, [tuned, *gradients(tuned)], BY_PARTS)
    plain = compile_plain(INPUTS, [loss, *gradients(loss)])
    names = ["value", *"ABCUds"]
    assert_equal(fn(*values()), plain(*values()), names)
    proven = kind == "matrix" or facts != "none"
    assert bool({*COMPOSITES} & {*strategies(fn)}) == (proven and form not in PLAIN)


# -- what is no positive definite matrix --------------------------------------------------------------


def on_the_dense_matrix(K, asked):
    """Computes ``asked`` of a matrix that is an input, their ``loss_of`` and its gradient by ``INPUTS``.

    PyTensor's own rewrites take a factor of each part: NaN of two negative ones, and in some blocks only.
    """
    M = pt.matrix("M", shape=K.type.shape)
    outputs = list(asked(M).values())
    loss = loss_of(outputs)
    dense = compile_plain([M], [*outputs, loss, pt.grad(loss, M)])
    form = compile_plain(INPUTS, K)
    pull = compile_plain([*INPUTS, M], gradients((K * M).sum()))

    def compute(*given):
        *found, M_bar = dense(form(*given))
        return [*found, *pull(*given, M_bar)]

    return compute


SIGNS = {
    "definite": (1, 1),
    "the first negative definite": (-1, 1),
    "the last negative definite": (1, -1),
    "both negative definite": (-1, -1),
    "the first indefinite": ("indefinite", 1),
    "the last indefinite": (1, "indefinite"),
    "both indefinite": ("indefinite", "indefinite"),
    "the first negative, the last indefinite": (-1, "indefinite"),
    "a zero": (0, 1),
    "NaN": (np.nan, 1),
}
OF_ANY_SIGN = {
    "kron": lambda A, B, C: kron(A, B),
    "kron of three": lambda A, B, C: kron(kron(A, C), B),
    "negative in the middle": lambda A, B, C: kron(kron(C, A), -B),
    "blocks": lambda A, B, C: block_diag(A, B),
    "block of kron": lambda A, B, C: block_diag(C, kron(A, B)),
    "kron of blocks": lambda A, B, C: kron(A, block_diag(B, B)),
    "kron with a diagonal": lambda A, B, C: kron(s * pt.eye(2), kron(A, B)),
    "blocks with a diagonal": lambda A, B, C: block_diag(s * pt.eye(2), A, B),
    "kron of thin": lambda A, B, C: kron(s * thin, kron(A, B)),
}


def signed(matrix, sign):
    return (
        matrix - np.median(np.diag(matrix)) * np.eye(len(matrix)) if sign == "indefinite" else sign * matrix
    )


@pytest.mark.parametrize(("form", "door"), in_turn(itertools.product(OF_ANY_SIGN, ["mode", "tune"]), 18))
def test_nan_where_there_is_no_factor(form, door):
    K = OF_ANY_SIGN[form](*(FACTS["symmetric"](X) for X in (A, B, C)))
    n = order_of(K)
    asked = factor_requests(K, n)
    loss = loss_of(asked.values())
    plain = on_the_dense_matrix(K, lambda M: factor_requests(M, n))
    if door == "tune":
        mine = autotune.tune([*asked.values(), loss], BY_PARTS)
        mine += gradients(mine[-1])
    else:
        mine = [*asked.values(), loss, *gradients(loss)]
    fn = compile_with(INPUTS, mine, BY_PARTS)
    assert {*COMPOSITES} & {*strategies(fn)}
    for name, (first, last) in SIGNS.items():
        for scale in (1.3, -1.3) if "diagonal" in form or "thin" in form else (1.3,):
            given = values()
            given[0], given[1], given[5] = signed(given[0], first), signed(given[1], last), np.array(scale)
            with np.errstate(invalid="ignore", divide="ignore"):
                names = [f"{what}, {name}, {scale}" for what in (*asked, "loss", *"ABCUds")]
                assert_equal(fn(*given), plain(*given), names)


@pytest.mark.parametrize("form", in_turn(["block of kron", "kron", "blocks", "kron of blocks"], 4))
def test_one_request_on_the_factor_beside_one_on_the_matrix(form):
    K = OF_ANY_SIGN[form](*(FACTS["symmetric"](X) for X in (A, B, C)))
    n = order_of(K)
    whole, factor = requests(K, n), factor_requests(K, n)
    del factor["pos"]  # PyTensor believes its promise of the other solves
    kept = ("solve", "logdet", "sign", "inverse diagonal")
    fn = compile_with(INPUTS, [*(whole[name] for name in kept), *factor.values()], BY_PARTS)
    of_matrix = on_the_dense_matrix(K, lambda M: {name: requests(M, n)[name] for name in kept})
    of_factor = on_the_dense_matrix(K, lambda M: {name: factor_requests(M, n)[name] for name in factor})
    for name, (first, last) in SIGNS.items():
        if first in (1, -1, "indefinite"):
            given = values()
            given[0], given[1] = signed(given[0], first), signed(given[1], last)
            expected = [*of_matrix(*given)[: len(kept)], *of_factor(*given)[: len(factor)]]
            assert_equal(fn(*given), expected, [f"{what}, {name}" for what in (*kept, *factor)])


@pytest.mark.parametrize("form", ["kron", "blocks", "block of kron", "kron of three"])
def test_a_singular_part_has_the_determinant_zero(form):
    K = made(form)
    fn = compile_with(INPUTS, [*slogdet(K), det(K)], BY_PARTS)
    given = values()
    given[0][1] = 0.0
    with np.errstate(divide="ignore"):
        sign, logabsdet, determinant = fn(*given)
    assert (sign, logabsdet, determinant) == (0, -np.inf, 0)


@pytest.mark.parametrize("form", in_turn(["kron of three", "kron"]))
def test_a_whole_that_is_said_to_be_definite_may_have_negative_factors(form):
    K = assume(made(form, "symmetric"), positive_definite=True)
    asked = {**requests(K, order_of(K)), **factor_requests(K, order_of(K)), "factor": cholesky(K)}
    fn = compile_with(INPUTS, list(asked.values()), BY_PARTS)
    first, last, *rest = values()
    assert_equal(fn(-first, -last, *rest), fn(first, last, *rest), asked)


# -- dtypes, lengths, shapes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "kind"),
    in_turn(itertools.product(["kron", "blocks", "kron of blocks", "block of kron"], KINDS), 8),
)
def test_single_precision(form, kind):
    inputs = [pt.tensor(X.name, dtype="float32", shape=X.type.shape) for X in (A, B, C)]
    K = MATRICES[form](*(FACTS["definite"](X) for X in inputs))
    outputs = list(KINDS[kind](K, K.type.shape[0]).values())
    loss = loss_of(outputs)
    tuned = autotune.tune(loss, BY_PARTS)
    fn = compile_with(inputs, [*outputs, tuned, *gradients(tuned, inputs)], BY_PARTS)
    plain = compile_plain(inputs, [*outputs, loss, *gradients(loss, inputs)])
    given = [X / np.float32(8) for X in values(dtype="float32")[:3]]  # determinants of a moderate size
    assert_equal(fn(*given), plain(*given), range(100)[: len(outputs) + 4], 2e-3)
    assert {*COMPOSITES} & {*strategies(fn)}


@pytest.mark.parametrize(
    ("dtypes", "form"),
    in_turn(
        itertools.product(
            [("int64", "int64"), ("int64", "float64"), ("float32", "float64")], ["kron", "blocks", "scaled"]
        ),
        2,
    ),
)
def test_parts_of_several_dtypes_and_integers_stay_as_written(form, dtypes):
    first, last = pt.matrix("A", shape=(4, 4), dtype=dtypes[0]), pt.matrix("B", shape=(3, 3), dtype=dtypes[1])
    K = MATRICES[form](first, last, C)
    asked = requests(K, K.type.shape[0])
    fn = compile_with([first, last, s], list(asked.values()), BY_PARTS)
    assert not {*COMPOSITES} & {*strategies(fn)}
    given = [np.round(4 * value).astype(dtype) for value, dtype in zip(values(), dtypes, strict=False)]
    plain = compile_plain([first, last, s], list(asked.values()))
    assert_equal(fn(*given, 1.3), plain(*given, 1.3), asked, 1e-3 if "float32" in dtypes else 1e-9)


def unknown(*names):
    return [pt.matrix(name) for name in names]


UNKNOWN_ORDERS = itertools.product(
    ["kron", "kron of three", "blocks", "block of kron", "kron of blocks"],
    ["symmetric", "definite", "gram"],
    KINDS,
    [None, BY_PARTS],
)


@pytest.mark.parametrize(("form", "facts", "kind", "policy"), in_turn(UNKNOWN_ORDERS, 47))
def test_unknown_orders(form, facts, kind, policy):
    """As with known ones."""
    proven = {**FACTS, "gram": lambda X: X @ X.T}[facts]
    n = order_of(MATRICES[form](A, B, C))

    def outputs(inputs, tune=list):
        asked = KINDS[kind](MATRICES[form](*(proven(X) for X in inputs)), n)
        loss = sum(out.sum() for out in asked.values() if out.dtype != "bool")
        tuned = tune([*asked.values(), loss])
        return [*tuned, *gradients(tuned[-1], inputs)]

    inputs = unknown(*"ABC")
    fn = compile_with(inputs, outputs(inputs, lambda outs: autotune.tune(outs, policy)), policy)
    plain = compile_plain([A, B, C], outputs([A, B, C]))
    assert_equal(fn(*values()[:3]), plain(*values()[:3]), range(100)[: len(fn.maker.fgraph.outputs)])


@pytest.mark.parametrize("join", [kron, block_diag])
def test_a_part_of_which_one_term_tells_the_order(join):
    points = pt.matrix("points", shape=(None, 1))
    K = join(pt.diag(d) + points @ points.T, B)
    asked = requests(K, 15 if join is kron else 8)
    of = [points, d, B]
    given = [values()[3], values()[4], values()[1]]
    fn = compile_with(of, list(asked.values()), BY_PARTS)
    assert {*COMPOSITES} & {*strategies(fn)}
    assert_equal(fn(*given), compile_plain(of, list(asked.values()))(*given), asked)


@pytest.mark.parametrize("form", ["kron", "blocks", "kron of three", "block of kron"])
@pytest.mark.parametrize("shapes", [[(2, 3), (3, 2)], [(None, None), (None, None)]])
def test_parts_that_are_not_proven_to_be_square_stay_as_written(form, shapes):
    first, last = (pt.matrix(name, shape=shape) for name, shape in zip("AB", shapes, strict=True))
    K = MATRICES[form](first, last, C)
    fn = compile_with([first, last, C], [inv(K), pt.diagonal(inv(K))], BY_PARTS)
    assert not {*COMPOSITES} & {*strategies(fn)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "form", ["kron", "kron of three", "blocks", "block of kron", "kron of thin", "identity last"]
)
@pytest.mark.parametrize("shape", [(None,), (None, 2), (None, None)])
def test_a_right_hand_side_of_another_length_is_refused(form, kind, shape):
    K = made(form, "definite")
    n = order_of(K)
    b = pt.tensor("b", shape=shape)
    L = cholesky(K)
    outputs = {
        "matrix": [solve(K, b, b_ndim=b.ndim), solve(K.T, b, b_ndim=b.ndim), slogdet(K)[1]],
        "factor": [
            pt.sqr(solve_triangular(L, b, lower=True, b_ndim=b.ndim)).sum(),
            pt.log(pt.diagonal(L)).sum(),
        ],
    }[kind]
    fn = compile_with([*INPUTS, b], outputs, BY_PARTS)
    assert {*COMPOSITES} & {*strategies(fn)}
    fn(*values(), np.ones((n, 2)[: b.ndim]))
    for wrong in (n - 1, n + 1, 2 * n, 1, 0):
        with pytest.raises((ValueError, AssertionError, TypeError)):
            fn(*values(), np.ones((wrong, 2)[: b.ndim]))


@pytest.mark.parametrize("form", ["kron", "blocks", "kron of blocks", "block of thin"])
def test_no_columns(form):
    K = made(form, "definite")
    n = order_of(K)
    Y = pt.matrix("Y", shape=(n, None))
    fn = compile_with([*INPUTS, Y], [solve(K, Y), (Y * (inv(K) @ Y)).sum(axis=0), slogdet(K)[1]], BY_PARTS)
    solution, squares, _ = fn(*values(), np.ones((n, 0)))
    assert solution.shape == (n, 0)
    assert squares.shape == (0,)


def test_an_empty_block_changes_nothing():
    empty = pt.matrix("E", shape=(0, 0))
    K = block_diag(A, empty, B)
    asked = requests(K, 7)
    fn = compile_with([A, B, empty], list(asked.values()), BY_PARTS)
    plain = compile_plain([A, B], list(requests(block_diag(A, B), 7).values()))
    first, last = values()[:2]
    assert_equal(fn(first, last, np.empty((0, 0))), plain(first, last), asked)


# -- what plain PyTensor cannot do --------------------------------------------------------------------


def test_a_determinant_that_overflows():
    big = pt.matrix("M", shape=(60, 60))
    value = spd(60, np.random.default_rng(5), 1e3)
    for K, expected in (
        (kron(big, big), 120 * np.linalg.slogdet(value)[1]),
        (block_diag(*[1e5 * big] * 6), 6 * (60 * np.log(1e5) + np.linalg.slogdet(value)[1])),
        (1e5 * kron(big, big), 3600 * np.log(1e5) + 120 * np.linalg.slogdet(value)[1]),
    ):
        fn = compile_with([big], [*slogdet(K), pt.log(det(K))])
        assert {*COMPOSITES} & {*strategies(fn)}
        sign, logabsdet, log_of_det = fn(value)
        assert sign == 1
        assert abs(logabsdet / expected - 1) < 1e-12
        assert abs(log_of_det / expected - 1) < 1e-12


LARGE = {
    "kron": lambda A, B, C: (kron(A, B), 12 * 15),
    "kron of three": lambda A, B, C: (kron(A, kron(B, C)), 12 * 15 * 2),
    "scaled": lambda A, B, C: (s * kron(A, B), 12 * 15),
    "blocks": lambda A, B, C: (block_diag(A, B, 2 * A, s * B), 2 * 27),
    "block of krons": lambda A, B, C: (block_diag(kron(A, B), kron(A, C)), 12 * 17),
    "kron of thin": lambda A, B, C: (kron(A, pt.diag(pt.diagonal(B)) + s * pt.outer(B[0], B[0])), 12 * 15),
}


@pytest.mark.parametrize(("form", "facts"), in_turn(itertools.product(LARGE, ["symmetric", "definite"]), 10))
def test_no_array_of_the_whole_order(form, facts):
    """Of value and gradient of a likelihood, whatever its idiom."""
    inputs = [pt.matrix("A", shape=(12, 12)), pt.matrix("B", shape=(15, 15)), C]
    K, n = LARGE[form](*(FACTS[facts](X) for X in inputs))
    y = pt.vector("y", shape=(n,))
    L = cholesky(K)
    rng = np.random.default_rng(6)
    given = [spd(12, rng), spd(15, rng), spd(2, rng), np.array(1.3), rng.normal(size=n)]
    for loss in (
        y @ inv(K) @ y + slogdet(K)[1],
        pt.sqr(solve_triangular(L, y, lower=True)).sum() + 2 * pt.log(pt.diagonal(L)).sum(),
    ):
        tuned = autotune.tune(loss)
        of = [*inputs, s, y]
        fn = compile_with(of, [tuned, *gradients(tuned, of)])
        assert largest_array(fn) < n * n / 2
        value, *rest = compile_plain(of, [loss, *gradients(loss, of)])(*given)
        names = ["value", *"ABCsy"] if np.isfinite(value) else [*"ABCsy"]  # the determinant may overflow
        assert_equal(fn(*given)[-len(names) :], [value, *rest][-len(names) :], names)


# -- as any decision ----------------------------------------------------------------------------------


def test_tuned_twice_is_tuned_once():
    loss = loss_of(requests(made("kron of blocks", "definite"), 14).values())
    once, twice = autotune.tune(loss, BY_PARTS), autotune.tune(autotune.tune(loss, BY_PARTS), BY_PARTS)
    found = []
    for out in (once, twice):
        fn = compile_with(INPUTS, [out, *gradients(out)], BY_PARTS)
        found.append((strategies(fn), fn(*values())))
    assert found[0][0] == found[1][0]
    assert_equal(found[0][1], found[1][1], ["value", *"ABCUds"])


@pytest.mark.parametrize("door", ["mode", "tune"])
@pytest.mark.parametrize("form", ["kron", "block of kron"])
def test_what_is_served_by_parts_is_pickled_and_explained(form, door):
    asked = requests(made(form, "definite"), order_of(made(form)))
    # no Op of symbolic graphs: one that was differentiated, in another test, cannot be pickled
    out = loss_of(asked[kind] for kind in ("solve", "logdet", "quadratic form"))
    out = autotune.tune(out, BY_PARTS) if door == "tune" else out
    fn = compile_with(INPUTS, [out], BY_PARTS)
    again = pickle.loads(pickle.dumps(fn))
    assert_equal(again(*values()), fn(*values()), ["value"])
    assert str(autotune.explain(again)) == str(autotune.explain(fn))
    assert strategies(again) == strategies(fn)
    assert {*COMPOSITES} & {*strategies(fn)}


@pytest.mark.parametrize("linker", ["vm", pytest.param("numba", marks=pytest.mark.slow)])
def test_other_linkers(linker):
    base = Mode(linker=linker, optimizer="fast_run")
    for form in ("kron", "block of kron") if linker == "vm" else ("block of kron",):
        K = made(form, "definite")
        y = pt.vector("y", shape=(order_of(K),))
        loss = autotune.tune(y @ inv(K) @ y + slogdet(K)[1], BY_PARTS)
        of = [*INPUTS, y]
        given = [*values(), np.arange(1.0, 1 + order_of(K))]
        outputs = [loss, *gradients(loss, of)]
        fn = compile_with(of, outputs, BY_PARTS, base)
        assert {*COMPOSITES} & {*strategies(fn)}
        plain = y @ inv(K) @ y + slogdet(K)[1]
        expected = compile_plain(of, [plain, *gradients(plain, of)])(*given)
        assert_equal(fn(*given), expected, ["value", *"ABCUdsy"])


# -- PyMC ---------------------------------------------------------------------------------------------


def kernel(pm, name, n):
    x = np.linspace(0, 3, n)[:, None]
    return pm.gp.cov.ExpQuad(1, ls=pm.HalfNormal(name))(x) + 1e-2 * np.eye(n)


def kronecker_model(pm):
    y = np.random.default_rng(8).normal(size=20)
    pm.MvNormal("y", 0, cov=kron(kernel(pm, "l", 4), kernel(pm, "m", 5)), observed=y)


def multiple_model(pm):
    y = np.random.default_rng(8).normal(size=(3, 20))
    cov = pm.HalfNormal("eta") ** 2 * kron(kernel(pm, "l", 4), kernel(pm, "m", 5))
    pm.MvNormal("y", pm.Normal("mu", shape=20), cov=cov, observed=y)


def blocks_model(pm):
    y = np.random.default_rng(8).normal(size=9)
    pm.MvNormal("y", 0, cov=block_diag(kernel(pm, "l", 4), kernel(pm, "m", 5)), observed=y)


def matrix_normal_model(pm):
    y = np.random.default_rng(8).normal(size=(4, 5))
    pm.MatrixNormal("y", 0, rowcov=kernel(pm, "l", 4), colcov=kernel(pm, "m", 5), observed=y)


# of PyMC's MatrixNormal
@pytest.mark.filterwarnings("ignore:(pytensor.tensor.linalg.trace|matrix_dot is deprecated):FutureWarning")
@pytest.mark.pymc
@pytest.mark.parametrize(
    "make", in_turn([kronecker_model, multiple_model, blocks_model, matrix_normal_model], 4)
)
def test_models_of_pymc_are_as_the_dense_model(make):
    pm = pytest.importorskip("pymc")
    with pm.Model() as model:
        make(pm)
    compiled = []
    for policy in ({"rules": [{"force": "keep"}]}, BY_PARTS):
        with autotune.enabled(policy) as session:
            compiled.append(model.logp_dlogp_function(ravel_inputs=True, mode=python_mode()))
        compiled[-1].set_extra_values({})
    served = [decision.chosen for plan in session.plans for decision in plan.decisions]
    assert bool({*COMPOSITES} & {*served}) == (make is not matrix_normal_model)
    start = 0.3 * np.random.default_rng(0).normal(size=sum(v.size for v in model.initial_point().values()))
    plain, mine = compiled
    assert_equal(mine(start), plain(start), ["value", "gradient"])
