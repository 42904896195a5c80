"""The price of a whole function: every Op has one, sizes rule it, and nothing is silently free."""

import pickle

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_plain, compile_with
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.tensor import linalg as tensor_linalg
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.linalg import cholesky, inv, slogdet, solve

import autotune
from autotune import ops
from autotune.plan import Plan
from autotune.pricing import ExampleSizes, price
from autotune.pricing.elementwise import SPECIAL, UNITS, VECTORISED, weight
from autotune.pricing.table import COSTS, rule_of
from autotune.pricing.whole import _refill, fresh_bytes
from autotune.read.sizes import Sizes
from cost_models import KERNEL_BY_NAME, KernelCall, call, generic_profile
from cost_models.model import FRESH

PROFILE = generic_profile()
A, B, x, s = pt.matrix("A"), pt.matrix("B"), pt.vector("x"), pt.scalar("s")


def priced(outputs, inputs=(A, B, x, s), *, hints=None, arguments=None, plain=compile_plain):
    """The price of a compiled graph, lengths by hints or by arguments."""
    fgraph = plain(list(inputs), outputs).maker.fgraph
    sizes = Sizes(fgraph, hints or {}) if arguments is None else ExampleSizes(fgraph, arguments)
    return price(fgraph, sizes, PROFILE)


def numba(inputs, outputs):
    """With fused loops, in place, as users run it."""
    return pytensor.function(inputs, outputs, mode="NUMBA", on_unused_input="ignore")


def square(n, m=None):
    """Hints for A (n, n), B (n, m) and x (n,)."""
    return {"A[0]": n, "A[1]": n, "B[0]": n, "B[1]": n if m is None else m, "x[0]": n}


def kernels(found):
    return {c.kernel for node in found.nodes for c in node.calls}


class Mystery(Op):
    """An Op that nobody knows."""

    __props__ = ()

    def make_node(self, a):
        return Apply(self, [a], [a.type()])

    def perform(self, node, inputs, outputs):
        outputs[0][0] = inputs[0]


class Moody(Mystery):
    """One whose shape rule fails."""

    def infer_shape(self, *arguments):
        raise RuntimeError("not today")


# -- the table -----------------------------------------------------------------------------------


OUR_OPS = [op for op in vars(ops).values() if isinstance(op, type) and issubclass(op, Op)]


def linalg_ops():
    """Every Op class that PyTensor's linear algebra defines, whatever its module."""
    found, waiting = set(), [Op]
    while waiting:
        for cls in waiting.pop().__subclasses__():
            waiting.append(cls)
            if cls.__module__.startswith(tensor_linalg.__name__):
                found.add(cls)
    return sorted(found, key=lambda cls: cls.__name__)


ABSTRACT = ("SolveBase",)


@pytest.mark.parametrize("cls", [*OUR_OPS, *linalg_ops()], ids=lambda cls: cls.__name__)
def test_every_op_of_linear_algebra_has_a_rule(cls):
    assert cls.__name__ in ABSTRACT or any(base in COSTS for base in cls.__mro__)


def test_the_registry_of_linear_algebra_was_found():
    names = {cls.__name__ for cls in linalg_ops()}
    assert {"Cholesky", "Solve", "SVD", "Eigh", "SolveTriangular", "QR", "Expm"} <= names


FACTORS = {
    "Cholesky": (cholesky, "potrf"),
    "LUFactor": (lambda a: pt.linalg.lu_factor(a)[0], "getrf"),
    "MatrixInverse": (inv, "inv"),
    "SLogDet": (lambda a: slogdet(a)[1], "slogdet"),
    "CholeskyInverse": (Blockwise(ops.CholeskyInverse()), "potri"),
    "CholeskyOrLU": (lambda a: Blockwise(ops.CholeskyOrLU())(a)[0], "potrf"),
    "gen": (lambda a: solve(a, B, assume_a="gen"), "gesv"),
    "sym": (lambda a: solve(a, B, assume_a="sym"), "sysv"),
    "pos": (lambda a: solve(a, B, assume_a="pos"), "potrf"),
    "triangular": (lambda a: pt.linalg.solve_triangular(a, B), "trsm"),
    "matmul": (lambda a: a @ B, "gemm"),
    "eigh": (lambda a: pt.linalg.eigh(a)[0], "syevr"),
    "svd": (lambda a: pt.linalg.svd(a)[1], "getrf"),
    "qr": (lambda a: pt.linalg.qr(a)[0], "getrf"),
}


@pytest.mark.parametrize("name", FACTORS)
def test_linear_algebra_runs_its_kernel_and_costs_more_when_larger(name):
    build, kernel = FACTORS[name]
    found = [priced(build(A), hints=square(n)) for n in (20, 200)]
    assert all(kernel in kernels(p) and not p.unknown for p in found)
    assert found[0].seconds < found[1].seconds
    assert found[0].peak_bytes < found[1].peak_bytes


def test_low_rank_is_priced_as_thin():
    U, d = pt.matrix("U", shape=(500, 5)), pt.vector("d", shape=(500,))
    fn = compile_with([U, d, x], [slogdet(U @ U.T + pt.diag(d))[1], solve(U @ U.T + pt.diag(d), x)])
    found = price(fn.maker.fgraph, Sizes(fn.maker.fgraph, {"x[0]": 500}), PROFILE)
    assert {"low_rank_factor", "low_rank_solve"} <= kernels(found)
    assert not found.unknown
    assert found.peak_bytes < 500 * 500 * 8 / 4


# -- elementwise ----------------------------------------------------------------------------------


GROUPS = [ops for group in UNITS.values() for ops in group.values()]


@pytest.mark.parametrize("cls", [*VECTORISED, *(c for group in GROUPS for c in group)])
def test_scalar_functions_are_in_one_class_only(cls):
    groups = [VECTORISED, *GROUPS]
    assert sum(cls in group for group in groups) == 1


def test_an_unlisted_scalar_function_is_dear():
    from pytensor.scalar.math import GammaInc, gammainc

    assert weight(gammainc) == SPECIAL
    assert PROFILE.seconds(call(SPECIAL[0], n=1000, count=SPECIAL[1]), "float64") > max(
        PROFILE.seconds(call(kernel, n=1000), "float64") for kernel in UNITS
    )
    assert isinstance(gammainc, GammaInc)


FUNCTIONS = {"exp": pt.sin, "log": pt.log1p, "tanh": pt.gammaln}


@pytest.mark.parametrize("kernel", FUNCTIONS)
def test_functions_run_the_kernel_they_are_like_and_hide_the_arithmetic(kernel):
    function = FUNCTIONS[kernel]
    alone = priced(function(A).sum(), hints=square(300), plain=numba)
    among = priced((3 * function(A + 1) - A / 2).sum(), hints=square(300), plain=numba)
    assert kernel in kernels(alone) & kernels(among)
    assert among.seconds < 1.2 * alone.seconds
    both = priced((function(A) * pt.exp(A)).sum(), hints=square(300), plain=numba)
    assert both.seconds > 1.15 * alone.seconds


def test_parts_are_joined_and_arrays_filled_by_their_kernels():
    found = priced([pt.join(1, A, B), pt.alloc(s, 50, 60)], hints=square(300))
    assert {"join", "fill"} <= kernels(found)
    assert not found.unknown


def test_exponentials_of_a_vector_are_not_counted_for_a_matrix():
    column = priced(pt.exp(x)[:, None] * A, hints=square(300))
    matrix = priced(pt.exp(x[:, None] * A), hints=square(300))
    assert sum(node.seconds for node in matrix.nodes) > 3 * sum(node.seconds for node in column.nodes)


def test_the_inner_loop_counts_and_what_it_leaves_alone_does_not():
    """Fused loops keep what varies only along the rows outside; the compiled graph is Numba's."""
    inside = priced(pt.exp(A * s).sum(), hints=square(400), plain=numba)
    outside = priced((A * pt.exp(s)).sum(), hints=square(400), plain=numba)
    assert inside.seconds > 3 * outside.seconds
    assert not inside.unknown
    assert inside.peak_bytes < 400 * 400  # nothing of the size of the matrix is written


def test_reading_against_the_memory_order_costs_more():
    rows = priced(A * B, hints=square(300))
    crosswise = priced(A * inv(B), hints=square(300))
    loops = [max(n.seconds for n in p.nodes if n.op.startswith("Mul")) for p in (rows, crosswise)]
    assert loops[1] > 3 * loops[0]


def test_a_fused_loop_reads_crosswise_too():
    found = [priced((A * matrix).sum(), hints=square(300), plain=numba) for matrix in (B, inv(B))]
    along, crosswise = [max(n.seconds for n in p.nodes if "reduce" in n.op) for p in found]
    assert crosswise > 3 * along


# -- sizes ----------------------------------------------------------------------------------------


def test_unknown_sizes_are_reported_and_arguments_supply_them():
    outputs = cholesky(A @ A.T) + s
    without = priced(outputs)
    assert {"Cholesky", "Add"} <= {node.op.split("{")[0] for node in without.unknown}
    assert all("unknown" in node.reason for node in without.unknown)
    values = [np.ones((30, 3)), np.ones((2, 2)), np.ones(2), np.array(1.0)]
    known = priced(outputs, arguments=values)
    assert not known.unknown
    assert known.seconds > without.seconds
    assert known.peak_bytes >= 30 * 30 * 8


def test_lengths_follow_through_shapes_reshapes_and_slices():
    n = A.shape[0]
    outputs = [
        pt.zeros((n, 2 * n)).sum(axis=0) + pt.arange(2 * n),
        A.reshape((n * n,))[: n // 2] ** 2,
        pt.concatenate([x, x]),
    ]
    assert not priced(outputs, hints=square(30)).unknown


def test_lengths_that_one_fused_loop_computes_are_told_apart():
    n, m = A.shape
    outputs = [pt.exp(pt.arange(n * m + n)), pt.exp(pt.arange(n * m - n))]
    assert not priced(outputs, hints=square(30), plain=numba).unknown


def test_static_and_hinted_sizes_cost_the_same():
    fixed = pt.matrix("fixed", shape=(50, 50))
    static = priced(cholesky(fixed), [fixed])
    hinted = priced(cholesky(A), [A], hints={"A[0]": 50, "A[1]": 50})
    assert static.seconds == pytest.approx(hinted.seconds)


def test_shared_variables_have_the_size_of_their_value():
    shared = pytensor.shared(np.eye(60), name="shared")
    fgraph = compile_plain([], cholesky(shared)).maker.fgraph
    assert "potrf" in kernels(price(fgraph, Sizes(fgraph, {}), PROFILE))


# -- inner graphs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("core", [cholesky, inv, lambda a: solve(a, a)])
def test_a_batch_multiplies(core):
    def of(batch):
        T = pt.tensor("T", shape=(batch, 40, 40))
        found = priced(core(T), [T])
        assert not found.unknown
        return max(node.seconds for node in found.nodes)

    assert of(20) == pytest.approx(10 * of(2))


def powers(steps):
    """``A^i x`` for i = 1 to ``steps``."""
    step = {"outputs_info": [x], "non_sequences": [A], "n_steps": steps, "return_updates": False}
    return pytensor.scan(lambda v, M: M @ v, **step)


def test_scan_multiplies_its_steps():
    def of(steps):
        out = powers(steps)
        found = priced(out[-1], [A, x], hints=square(200))
        assert not found.unknown
        return max(node.seconds for node in found.nodes if "Scan" in node.op)

    assert of(30) == pytest.approx(10 * of(3), rel=0.05)


def test_steps_that_are_not_known_are_reported():
    steps = pt.iscalar("steps")
    out = powers(steps)
    found = priced(out[-1], [A, x, steps], hints=square(20))
    assert any("steps" in node.reason for node in found.unknown)


# -- never raises, never silently free --------------------------------------------------------------


@pytest.mark.parametrize("op", [Mystery(), Moody()])
def test_an_unknown_op_is_listed(op):
    found = priced(op(A) + cholesky(A), [A], hints=square(20))
    assert any(type(op).__name__ in node.op for node in found.unknown)
    assert "potrf" in kernels(found)


def test_complex_numbers_are_listed():
    Z = pt.zmatrix("Z")
    assert priced(Z @ Z, [Z]).unknown


@pytest.mark.parametrize("graph", [None, object()], ids=["nothing", "no graph"])
def test_what_is_no_graph_has_no_price_but_a_reason(graph):
    found = price(graph, None, PROFILE)
    assert found.seconds == 0
    assert found.unknown[0].reason


def test_the_parts_add_up_in_falling_order():
    found = priced([cholesky(A), pt.exp(B), x.sum()], hints=square(50))
    seconds = [node.seconds for node in found.nodes]
    assert sum(seconds) == pytest.approx(found.seconds)
    assert seconds == sorted(seconds, reverse=True)
    assert any(node.op == "call" for node in found.nodes)


# -- memory ---------------------------------------------------------------------------------------


def test_the_peak_is_what_lives_at_once():
    n, unit = 100, 100 * 100 * 8
    one_after_the_other = priced(pt.exp(A) @ B, hints=square(n))
    assert one_after_the_other.peak_bytes == 2 * unit
    chain = priced(((((A @ B) @ B) @ B) @ B) @ B, hints=square(n))
    assert chain.peak_bytes == 3 * unit  # an array is released one node after its last use
    kept = priced([A @ B, (A @ B) @ B, ((A @ B) @ B) @ B], hints=square(n))
    assert kept.peak_bytes == 3 * unit
    view = priced(cholesky(A).T[1:], hints=square(n))
    assert view.peak_bytes == unit


@pytest.mark.parametrize("blocks", [1, 2])
def test_memory_that_the_allocator_keeps_costs_nothing(blocks):
    block = 2**23
    assert fresh_bytes(blocks * block, block) == 0
    assert fresh_bytes(5 * block, block) == 3 * block


def test_blocks_that_are_always_new_are_paid_by_their_kernels_alone():
    assert fresh_bytes(10 * FRESH, FRESH + 1) == 0


def test_a_function_that_holds_many_arrays_pays_for_fresh_pages():
    def fresh(count):
        found = priced([A + i for i in range(count)], hints=square(700))
        return sum(node.seconds for node in found.nodes if node.op == "fresh pages")

    assert fresh(2) == 0
    assert 0 < fresh(4) < fresh(6)


# -- the cache ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["gemm", "stream", "potrf", "getrs"])
def test_what_is_beyond_the_cache_is_paid_once(kernel):
    """With nothing left in the cache every byte costs what those beyond it cost, and no more."""
    model = PROFILE.models["float64"][kernel]
    dims = {1: (2000,), 2: (2000, 500), 3: (1500, 1500, 1500)}[len(KERNEL_BY_NAME[kernel].dims)]
    if kernel == "stream":
        dims = (4_000_000,)
    one = KernelCall(kernel, dims)
    touched = KERNEL_BY_NAME[kernel].bytes(dims, 8)
    beyond = model.coefficients.get("bytes_beyond", 0.0)
    already = beyond * max(touched - model.cache_bytes, 0.0)
    refill = _refill(one, "float64", PROFILE, peak=1e12)
    assert refill + already == pytest.approx(beyond * touched)
    assert _refill(one, "float64", PROFILE, peak=model.cache_bytes) == 0


# -- the plan -------------------------------------------------------------------------------------


def test_explain_prices_the_whole_function():
    K = pt.matrix("K", shape=(300, 300))
    fn = compile_with([K], [inv(K), slogdet(K)[1], pt.exp(K)])
    plan = autotune.explain(fn)
    assert plan.seconds > plan.decisions[0].winner.seconds * 0.9
    assert plan.peak_bytes >= 2 * 300 * 300 * 8
    [line] = [line for line in str(plan).splitlines() if "whole function" in line]
    assert "predicted; largest:" in line
    assert pickle.loads(pickle.dumps(plan)).price == plan.price


def test_explain_takes_lengths_from_arguments():
    fn = compile_with([A], slogdet(A)[1])
    assert autotune.explain(fn).price.unknown
    assert "not counted" in str(autotune.explain(fn))
    plan = autotune.explain(fn, [np.eye(30)])
    assert not plan.price.unknown


def test_a_plan_alone_has_no_price():
    assert Plan().seconds is None
    assert Plan().peak_bytes is None


def test_an_op_of_no_listed_class_has_no_rule():
    assert rule_of(Mystery()) is None
