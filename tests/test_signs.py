"""What is claimed to be nowhere negative is not; what priors and transforms are made of is seen to be so."""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import compile_raw
from hypothesis import given, settings
from hypothesis import strategies as st
from pytensor.assumptions.core import AssumptionFeature, FactState
from pytensor.compile.mode import Mode
from pytensor.graph.fg import FunctionGraph

from autotune.algebra.signs import NONNEGATIVE, is_nonnegative

x, y = pt.vector("x", shape=(5,)), pt.vector("y", shape=(5,))
s = pt.scalar("s")
LEAVES = [x, y, s, pt.constant(2.0), pt.constant(-1.0), pt.constant(np.arange(5.0)), pt.exp(x), pt.sqr(s)]
UNARY = [
    *(pt.exp, pt.sqr, pt.abs, pt.softplus, pt.sigmoid, pt.tanh, pt.sin, pt.log1p, pt.expm1, pt.neg, pt.log),
    *(pt.cumsum, pt.floor, pt.mean),
    lambda a: pt.sqrt(pt.abs(a)),
    lambda a: a**2,
    lambda a: a**3,
    lambda a: 1 / a,
    lambda a: a.sum() + x * 0,
    lambda a: a[..., None][..., 0],
    lambda a: pt.maximum(a, 0.5),
    lambda a: a * a,
    lambda a: pt.concatenate([a.reshape((-1,)), np.ones(5)])[:5],
    lambda a: pt.special.softmax(a + x),
    lambda a: a.astype("int64").astype("float64"),
    lambda a: (a > 0).astype("float64"),
    lambda a: pt.stack([s, pt.constant(1.0), s, s, s]) * pt.sum(a),
]
BINARY = [
    *(pt.add, pt.sub, pt.mul, pt.true_div, pt.maximum, pt.minimum, lambda a, b: pt.abs(a) ** b),
    *(lambda a, b: pt.switch(a > 0, a, b), lambda a, b: a * b * a),
]


@st.composite
def expressions(draw):
    made = [draw(st.sampled_from(LEAVES)) for _ in range(2)]
    for _ in range(draw(st.integers(1, 4))):
        a, b = draw(st.sampled_from(made)), draw(st.sampled_from(made))
        made.append(
            draw(st.sampled_from(BINARY))(a, b) if draw(st.booleans()) else draw(st.sampled_from(UNARY))(a)
        )
    return made[-1]


@settings(max_examples=60)
@given(expressions())
def test_what_is_claimed_to_be_nonnegative_is(var):
    if is_nonnegative(var):
        given_values = [
            np.array([-2.0, -0.3, 0.0, 0.4, 3.0]),
            np.array([1.5, -1.0, 0.2, -0.1, -4.0]),
            np.array(-0.7),
        ]
        with np.errstate(all="ignore"):
            value = compile_raw([x, y, s], var, Mode("py", None))(*given_values)
        assert not (value < 0).any()


SEEN = {
    "exp": pt.exp(x),
    "even power": s**2 * x**4,
    "half normal squared": pt.exp(s) ** 2,
    "interval": pt.sigmoid(s) * 3 + 0.5,
    "softplus": pt.softplus(x) / (1 + pt.exp(y)),
    "half Cauchy over gamma": pt.sqrt(pt.exp(x) / pt.exp(s)),
    "horseshoe": (pt.exp(s) * pt.exp(x) / pt.sqrt(1 + pt.sqr(s) * pt.sqr(pt.exp(x)))) ** 2,
    "mean of squares": pt.sqr(x - x.mean()).mean() * pt.ones(5),
    "gathered": pt.exp(x)[[0, 2, 2, 1]],
    "maximum": pt.maximum(x, 1e-6),
    "simplex": pt.special.softmax(x),
    "joined": pt.concatenate([pt.exp(x), pt.sqr(y)]),
    "stacked": pt.stack([pt.exp(s), pt.abs(s)]),
}
UNSEEN = {
    "input": x,
    "product": x * y,
    "difference": pt.exp(x) - pt.exp(y),
    "odd power": x**3,
    "log": pt.log(pt.exp(x)),
    "minimum": pt.minimum(x, 1.0),
}


@pytest.mark.parametrize("form", [*SEEN, *UNSEEN])
def test_signs_of_what_priors_are_made_of(form):
    assert is_nonnegative((SEEN | UNSEEN)[form]) == (form in SEEN)


def test_it_is_an_assumption_as_pytensors_are():
    var = NONNEGATIVE.assume(x) * pt.exp(y)
    assert NONNEGATIVE.holds(var)
    assert not NONNEGATIVE.holds(x * pt.exp(y))
    feature = AssumptionFeature()
    FunctionGraph(outputs=[var], clone=False).attach_feature(feature)
    assert feature.get(pt.constant([1.0, -1.0]), NONNEGATIVE) is FactState.FALSE
    assert feature.get(x, NONNEGATIVE) is FactState.UNKNOWN
