"""A gradient that was taken before the compile stays as it is where it is not certain to be one."""

import pytensor
import pytensor.tensor as pt
import pytest
from helpers import chosen, compile_raw, compile_with, forced
from pytensor.gradient import disconnected_grad, zero_grad
from pytensor.graph.basic import Apply
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.op import Op
from pytensor.tensor.linalg import inv, slogdet, solve
from taken_gradients import EXACT, MATRICES, STYLES, a_case, assert_same, by_inverse, low_rank

import autotune
from autotune.algebra.requests import RequestOp
from autotune.rewrite.rederive import DecideTakenGradients


class WithoutGradient(Op):
    __props__ = ()

    def make_node(self, x):
        return Apply(self, [x], [x.type()])

    def perform(self, node, inputs, outputs):
        outputs[0][0] = inputs[0]


def hessian_product(case):
    [first] = pt.grad(case.loss, case.wrt[-1:])
    return [case.loss, first, pt.grad(first.sum(), case.wrt[-1])]


def by_the_matrix(case):
    A = low_rank(case.inputs[0], *case.inputs[2:])
    return [pt.grad(by_inverse(A, case.inputs[1]), A)]


def part_of_the_gradient(case):
    A = low_rank(case.inputs[0], *case.inputs[2:])
    logdet = slogdet(A)[1]
    loss = case.inputs[1] @ inv(A) @ case.inputs[1] + logdet
    return [loss, *pt.grad(loss, case.wrt, consider_constant=[logdet])]


def jacobian_by_hand(case):
    A = low_rank(case.inputs[0], *case.inputs[2:])
    x = solve(A, case.inputs[1])
    return [pt.grad(x[i], case.wrt[1]) for i in range(6)]


def a_product_with_the_jacobian(case):
    x = solve(low_rank(case.inputs[0], *case.inputs[2:]), case.inputs[1])
    return pt.grad(None, case.wrt, known_grads={x: pt.cos(case.inputs[1])})


LEFT = {
    f.__name__: f
    for f in (
        hessian_product,
        by_the_matrix,
        part_of_the_gradient,
        jacobian_by_hand,
        a_product_with_the_jacobian,
    )
}


@pytest.mark.parametrize("name", LEFT)
def test_in_doubt_the_graph_stays(name):
    case = a_case("low_rank")
    outputs = LEFT[name](case)
    assert not changes(case.inputs, outputs)
    fn = compile_with(case.inputs, outputs, EXACT)
    assert not any(d.before_autodiff for d in autotune.explain(fn).decisions)
    assert_same(fn, compile_raw(case.inputs, outputs), case.values)


def changes(inputs, outputs) -> bool:
    """Whether the rewrite changes the graph of a function."""
    return rewritten(FunctionGraph(inputs, outputs, clone=True))


def rewritten(fgraph) -> bool:
    before = pytensor.dprint(fgraph, file="str")
    DecideTakenGradients(EXACT).rewrite(fgraph)
    return before != pytensor.dprint(fgraph, file="str")


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("style", STYLES)
def test_the_second_time_nothing_is_left_to_do(matrix, style):
    case = a_case(matrix, "inverse", style)
    fgraph = FunctionGraph(case.inputs, [*case.outputs(), case.loss * 2], clone=True)
    assert rewritten(fgraph)
    assert any(isinstance(node.op, RequestOp) for node in fgraph.apply_nodes)
    assert not rewritten(fgraph)


def test_what_is_kept_stays_as_it_was_written():
    case = a_case("low_rank")
    fgraph = FunctionGraph(case.inputs, case.outputs(), clone=True)
    before = pytensor.dprint(fgraph, file="str")
    DecideTakenGradients(forced("keep")).rewrite(fgraph)
    assert pytensor.dprint(fgraph, file="str") == before


def test_values_alone_are_not_touched():
    case = a_case("low_rank")
    assert not changes(case.inputs, [case.loss, pt.ones_like(case.loss) * 3])


def test_an_op_that_cannot_be_differentiated_is_no_obstacle_elsewhere():
    case = a_case("low_rank")
    outputs = [*case.outputs(), WithoutGradient()(case.inputs[1]).sum()]
    fn = compile_with(case.inputs, outputs, EXACT)
    assert [d.before_autodiff for d in autotune.explain(fn).decisions] == [True]
    assert_same(fn, compile_raw(case.inputs, outputs), case.values)


def test_an_op_that_cannot_be_differentiated_where_nobody_did():
    case = a_case("low_rank")
    case.loss = case.loss + (WithoutGradient()(case.inputs[0]) ** 2).sum()
    outputs = [case.loss, *pt.grad(case.loss, case.wrt, consider_constant=[case.inputs[0]])]
    assert_same(compile_with(case.inputs, outputs, EXACT), compile_raw(case.inputs, outputs), case.values)


def test_a_failure_leaves_the_gradient_to_be_read(monkeypatch, caplog):
    def fail(*args):
        raise RuntimeError("on purpose")

    monkeypatch.setattr("autotune.rewrite.rederive.taken_gradients", fail)
    case = a_case("low_rank")
    fn = compile_with(case.inputs, case.outputs(), EXACT)
    assert "on purpose" in caplog.text
    assert chosen(fn) == ["woodbury"]
    assert_same(fn, compile_raw(case.inputs, case.outputs()), case.values)


@pytest.mark.parametrize("stop", [zero_grad, disconnected_grad])
def test_a_gradient_that_is_stopped_stays_stopped(stop):
    """In a graph that was differentiated, and in one that is tuned before."""
    case = a_case("low_rank")
    X, y, U, d = case.inputs
    loss = by_inverse(low_rank(X, U, stop(d) + d**2), y)
    outputs = [loss, *pt.grad(loss, case.wrt)]
    tuned = autotune.tune(loss, EXACT)
    plain = compile_raw(case.inputs, outputs)
    for ours in (outputs, [tuned, *pt.grad(tuned, case.wrt)]):
        fn = compile_with(case.inputs, ours, EXACT)
        assert [d.before_autodiff for d in autotune.explain(fn).decisions] == [True]
        assert_same(fn, plain, case.values)
