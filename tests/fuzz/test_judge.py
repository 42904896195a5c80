"""The judge catches what is wrong, lets pass what rounding explains, and says which of two is right."""

from collections import Counter

import numpy as np
import pytest

from fuzz.judge import Evidence, Noise, agree, distance, judge, natural_noise, wrong

RIGHT = np.array([[1.0, -2.0], [3.0, 0.5]])


def judged(tuned, plain=RIGHT, right=RIGHT, condition=10.0, noise=0.0, lost=False, eps=2.2e-16, tags=None):
    evidence = Evidence(lambda: [right], lambda: condition, lambda: [Noise(noise, lost)], eps)
    return [
        f.kind for f in judge([plain], [tuned], evidence, ["output"], Counter() if tags is None else tags)
    ]


def test_equal_results_are_no_fault():
    assert judged(RIGHT.copy()) == []


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (RIGHT + np.eye(2), "value"),
        (RIGHT * (1 + 1e-9), "accuracy"),
        (RIGHT.astype("float32"), "dtype"),
        (RIGHT[:1], "shape"),
        (np.where(RIGHT > 2, np.nan, RIGHT), "nan"),
        (np.where(RIGHT > 2, -np.inf, RIGHT), "nan"),
    ],
)
def test_what_is_wrong_is_a_fault(wrong, kind):
    assert kind in judged(wrong)


def test_a_lost_nan_is_a_fault():
    nan = np.full(3, np.nan)
    assert judged(np.zeros(3), nan, nan) == ["nan"]


def test_the_nan_of_a_branch_that_is_not_taken_may_be_lost():
    nan, number = np.full(3, np.nan), np.zeros(3)
    for plain, tuned, faults in ((nan, number, 0), (number, nan, 1)):
        evidence = Evidence(lambda p=plain: [p], lambda: 1.0, lambda: [Noise()], 1e-16, switched={0})
        assert len(judge([plain], [tuned], evidence, [""], Counter())) == faults


def test_nan_in_place_of_minus_infinity_is_a_fault():
    assert judged(np.array(np.nan), np.array(-np.inf), np.array(-np.inf)) == ["nan"]


def test_flags_and_integers_are_exact():
    assert judged(np.array(True), np.array(False), np.array(False)) == ["value"]
    assert judged(np.array([1, 2]), np.array([1, 3]), np.array([1, 3])) == ["value"]


def test_only_plain_being_wrong_is_no_fault():
    tags = Counter()
    assert judged(RIGHT.copy(), RIGHT + 1e-3, tags=tags) == []
    assert tags["differs within tolerance"] == 1


def test_ten_times_the_error_of_plain_is_allowed_and_more_is_not():
    right = RIGHT.ravel()  # no matrix: the gradient of one is judged by its symmetric part
    plain = right * (1 + 1e-9)
    assert judged(right * (1 + 9e-9), plain, right) == []
    assert judged(right * (1 + 12e-9), plain, right) == ["accuracy"]


def test_a_gradient_of_a_symmetric_matrix_is_known_up_to_an_antisymmetric_part():
    turned = np.array([[0.0, 1.0], [-1.0, 0.0]])
    for size in (1.0, 1e-9):
        assert judged(RIGHT + size * turned) == []
        assert judged(RIGHT + size * turned.T @ turned)


def test_condition_and_noise_excuse_what_they_explain():
    moved = RIGHT * (1 + 1e-10)
    assert judged(moved) == ["accuracy"]
    assert judged(moved, condition=1e5) == []
    assert judged(moved, noise=1e-10) == []


def test_what_is_only_rounding_may_be_another_rounding_but_no_value():
    zero = np.array(0.0)
    for error, kinds in ((1e-27, []), (1e-20, ["value"])):
        assert judged(np.array(error), np.array(1e-30), zero, noise=1e-30) == kinds


def test_the_condition_excuses_no_value_within_reach():
    assert judged(RIGHT * 1.1, condition=1e8) == ["value"]


def test_agreement_looks_at_dtype_shape_and_nan():
    assert agree([RIGHT], [RIGHT * (1 + 1e-16)], 2.2e-16)
    for other in (RIGHT.astype("float32"), RIGHT[:1], RIGHT * np.array([[1, np.nan], [1, 1]])):
        assert not agree([other], [RIGHT], 2.2e-16)


def test_distance_is_infinite_where_nan_and_infinity_differ():
    assert distance(np.array([np.nan]), np.array([np.inf])) == np.inf
    assert distance(np.array([np.nan, 1.0]), np.array([np.nan, 1.5])) == 0.5


def test_noise_is_what_rounding_of_the_inputs_does():
    r = np.random.RandomState(0)
    [noise] = natural_noise(lambda v: [1e6 * v[0]], [np.ones(50)], [np.full(50, 1e6)], 1e-10, r)
    assert 0.5e-4 < noise.size < 2e-4
    assert not noise.lost


def test_what_rounding_of_the_inputs_makes_plain_lose_autotune_may_lose():
    wrong = np.where(RIGHT > 2, np.nan, RIGHT)
    assert judged(wrong, lost=True) == []
    assert judged(wrong, right=wrong, lost=True) == []
    assert judged(RIGHT, wrong, wrong, lost=True) == ["nan"]
    assert judged(np.where(RIGHT > 2, np.inf, RIGHT), lost=True) == ["nan"]
    assert judged(RIGHT * 1.1, lost=True) == ["value"]


@pytest.mark.parametrize("singular", [lambda v: None, lambda v: [v[0] * np.nan]], ids=["raises", "nan"])
def test_a_result_is_lost_where_rounding_of_the_inputs_loses_it(singular):
    values = [np.array(1.0)]
    run = lambda v: singular(v) if v[0] > 1 else [v[0]]  # noqa: E731
    [noise] = natural_noise(run, values, values, 1e-10, np.random.RandomState(0))
    assert noise.lost


def test_exact_zeros_beside_what_raises_may_be_roundings():
    zero, r = np.array(0.0), np.random.RandomState(0)
    run = lambda v: None if v[0] > 1 else [zero]  # noqa: E731
    [noise] = natural_noise(run, [np.array(1.0)], [zero], 2.2e-16, r)
    for error, kinds in ((1e-32, []), (1e-3, ["value"])):
        assert judged(np.array(error), zero, zero, noise=noise.size, lost=noise.lost) == kinds


def test_plain_is_wrong_only_where_there_is_no_doubt():
    evidence = Evidence(lambda: [RIGHT, np.array(1.0)], lambda: 10.0, lambda: [Noise(), Noise(0.01)], 2.2e-16)
    assert wrong([RIGHT + 1, np.array(1.0)], evidence)
    for one, other in ((RIGHT * 1.001, 1.0), (RIGHT, 1.1), (RIGHT * np.nan, 1.0)):
        assert not wrong([one, np.array(other)], evidence)
    evidence = Evidence(lambda: [RIGHT * np.nan], lambda: 10.0, lambda: [Noise()], 2.2e-16)
    assert wrong([RIGHT], evidence)
    assert not wrong([RIGHT * np.nan], evidence)
