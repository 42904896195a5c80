"""The graphs that stand in for a problem when its candidates are timed: right, and written as by hand."""

import numpy as np
import pytensor.tensor as pt
import pytest
from helpers import compile_plain, compile_with, diagonal_plus_low_rank, in_turn, op_names, python_mode
from measuring_helpers import A, P, b, plan

from autotune.algebra.diagonal import diagonal_term
from autotune.algebra.low_rank import low_rank_term
from autotune.algebra.sum import sum_term
from autotune.choose import choose
from autotune.evidence import measured, stand_ins, trials
from autotune.policy import Policy
from autotune.problem import STRUCTURES, Problem, Request, Term, dense
from autotune.rewrite.passes import modes_to_time
from cost_models import generic_profile

DEFINITE = dense(3, positive_definite=True, symmetric=True)
KRONECKER = Term("kronecker", children=(dense(2), dense(3)), order="product")
ORTHONORMAL = (("nonnegative_weights", True), ("orthonormal", True), ("symmetric", True))
LOWER = Term("triangular", (("n", 6),), (("lower", True),))
STAND_INS = {
    "PD": Problem((Request("solve", 3), Request("logdet", form="lu")), term=dense(7), positive_definite=True),
    "by a factor": Problem(
        tuple(Request(kind, 2, form="cholesky") for kind in ("solve", "inv_quad", "logdet")),
        term=dense(7),
        positive_definite=True,
        symmetric=True,
    ),
    "symmetric": Problem(
        (Request("solve", 1, form="sym"), Request("inverse", form="inverse")), term=dense(6), symmetric=True
    ),
    "general": Problem(
        (Request("solve", 2), Request("solve", 2, True), Request("determinant", form="lu")), term=dense(6)
    ),
    "inverse": Problem(
        (Request("solve", 2, form="inverse"), Request("inverse_diagonal", form="inverse")), term=dense(6)
    ),
    "batch": Problem((Request("solve", 2), Request("logdet", form="lu")), term=dense(4), batch=3),
    "given": Problem((Request("solve"), Request("logdet", form="lu")), term=dense(5), given=True),
    "single": Problem(
        (Request("solve", 2, form="pos"),), term=dense(5), positive_definite=True, dtype="float32"
    ),
    "low rank": Problem(
        (Request("solve", 1, form="pos"), Request("logdet", form="lu")),
        term=diagonal_plus_low_rank(8, 2),
        positive_definite=True,
        symmetric=True,
    ),
    "low rank, general": Problem(
        (Request("solve", 2), Request("logdet", form="lu")),
        term=diagonal_plus_low_rank(8, 1, symmetric=False, nonnegative=False),
    ),
    "dense and low rank": Problem(
        (Request("solve", 1, form="pos"),),
        term=diagonal_plus_low_rank(8, 2, beside=[dense(8)]),
        positive_definite=True,
        symmetric=True,
    ),
    "diagonal": Problem(
        (Request("solve", 2), Request("logdet", form="lu")), diagonal_term(6), symmetric=True
    ),
    "kronecker": Problem(
        (Request("solve", 2), Request("logdet", form="lu")),
        Term("kronecker", children=(dense(3), diagonal_plus_low_rank(5, 2)), order="product"),
    ),
    "kronecker, by a factor": Problem(
        (Request("solve", 1, form="cholesky"), Request("logdet", form="cholesky")),
        Term("kronecker", children=(DEFINITE, DEFINITE), facts=(("symmetric", True),), order="product"),
        positive_definite=True,
        symmetric=True,
    ),
    "blocks": Problem(
        (Request("solve", 1), Request("logdet", form="lu")),
        Term("block_diagonal", children=(dense(3), KRONECKER), order="total"),
    ),
    "arrowhead": Problem(
        (Request("solve", 1), Request("logdet", form="lu")),
        Term("blocks", children=(diagonal_term(5), dense(2)), order="total"),
    ),
    "symmetric arrowhead": Problem(
        (Request("solve", 1), Request("logdet", form="lu")),
        Term("blocks", facts=(("symmetric", True),), children=(diagonal_term(5), DEFINITE), order="total"),
        symmetric=True,
    ),
    "permuted": Problem(
        (Request("solve", 2), Request("logdet", form="lu")),
        Term("permuted", children=(KRONECKER,), order="same"),
    ),
    "block-triangular": Problem(
        (Request("solve", 1), Request("logdet", form="lu")),
        Term("block_triangular", children=(dense(3), dense(2)), order="total"),
    ),
    "low-rank update": Problem(
        (Request("solve", 1), Request("logdet", form="lu")), sum_term(KRONECKER, low_rank_term(6, 1))
    ),
    "pencil": Problem(
        (Request("solve", 2), Request("logdet", form="lu")),
        Term("pencil", (("n", 6),), (("symmetric", True),)),
        symmetric=True,
    ),
    "kronecker with noise": Problem(
        (Request("solve", 2), Request("logdet", form="lu")),
        Term("kronecker_noise", (("n", 6), ("p0", 2), ("p1", 3)), (("symmetric", True),)),
        symmetric=True,
    ),
    "triangular": Problem((Request("solve", 2), Request("logdet", form="lu")), LOWER),
    "banded": Problem(
        (Request("solve", 2), Request("logdet", form="lu")),
        Term("banded", (("n", 9), ("bands", 2)), (("symmetric", True),)),
        symmetric=True,
    ),
    "banded, general": Problem(
        (Request("solve", 2), Request("logdet", form="lu")), Term("banded", (("n", 9), ("bands", 3)))
    ),
    "on a line": Problem(
        (Request("solve", 2), Request("logdet", form="lu")),
        Term("quasiseparable", (("n", 9), ("states", 2)), (("symmetric", True),)),
        symmetric=True,
    ),
    "toeplitz": Problem(
        (Request("solve", 2), Request("logdet", form="lu")),
        Term("toeplitz", (("n", 9),), (("symmetric", True),)),
        symmetric=True,
    ),
    "circulant": Problem((Request("solve", 2), Request("logdet", form="lu")), Term("circulant", (("n", 9),))),
    "sparse": Problem(
        (Request("solve", 2), Request("logdet", form="lu")),
        Term("sparse", (("n", 9), ("entries", 17), ("height", 2)), (("symmetric", True),)),
        symmetric=True,
    ),
    "known inverse": Problem(
        (Request("solve", 2), Request("solve", 1, True)), Term("known_inverse", (("n", 6),))
    ),
    "product": Problem(
        (Request("solve", 2), Request("logdet", form="lu")),
        Term("product", children=(LOWER, dense(6)), order="same"),
    ),
    "congruence": Problem(
        (Request("solve", 2), Request("logdet", form="lu")),
        Term("congruence", children=(LOWER, diagonal_term(6)), facts=(("symmetric", True),), order="same"),
        symmetric=True,
    ),
    "congruence, by a factor": Problem(
        (
            Request("solve", 1, form="cholesky", checked=True),
            Request("logdet", form="cholesky", checked=True),
        ),
        Term("congruence", children=(LOWER,), facts=(("symmetric", True),), order="same"),
        symmetric=True,
    ),
    "precision": Problem(
        (Request("solve", 2), Request("logdet", form="lu")),
        Term("inverse", children=(diagonal_plus_low_rank(8, 2),), order="same"),
    ),
    "orthonormal columns": Problem(
        (Request("solve", 2), Request("logdet", form="lu")),
        sum_term(diagonal_term(8), Term("low_rank", (("n", 8), ("rank", 2)), ORTHONORMAL)),
        symmetric=True,
    ),
    "shared": Problem((Request("solve", 1),), term=diagonal_plus_low_rank(8, 2), shared=True, symmetric=True),
}


@pytest.mark.parametrize("differentiated", [False, True], ids=["value", "gradient"])
@pytest.mark.parametrize("name", in_turn(STAND_INS))
def test_every_candidate_agrees_on_the_stand_in(name, differentiated):
    given = STAND_INS[name]
    problem = Problem(**{**vars(given), "differentiated": differentiated, "linker": "perform"})
    assert stand_ins.has_stand_in(problem)
    decision = choose(problem, Policy(), generic_profile())
    applicable = [c.name for c in decision.candidates if c.seconds is not None]
    profile = generic_profile()
    candidates = {name: measured._as_built(decision, name, Policy(), profile) for name in applicable}
    functions, ruled_out = trials._agreeing(
        stand_ins.stand_in(problem), candidates, modes_to_time(python_mode())
    )
    assert ruled_out == {}
    assert set(functions) == set(applicable) >= {"keep"}


def test_every_structure_makes_an_example_of_its_sizes():
    """Well conditioned, so that no candidate takes another way than it would."""

    def kinds(term):
        return {term.kind}.union(*map(kinds, term.children))

    assert set(STRUCTURES) <= set().union(*(kinds(problem.term) for problem in STAND_INS.values()))
    for problem in STAND_INS.values():
        inputs = stand_ins.stand_in(problem)
        fn = compile_plain(inputs.inputs, [inputs.matrix])
        [matrix] = fn(*inputs.values)
        assert matrix.shape[-2:] == (problem.n, problem.n)
        assert np.linalg.cond(matrix).max() < 1e3
        assert not problem.positive_definite or np.linalg.eigvalsh(matrix).min() > 0


def test_keep_on_a_stand_in_solves_in_the_form_that_was_written():
    ops = {}
    for form in ("gen", "sym", "inverse", "cholesky"):
        problem = Problem(
            (Request("solve", 1, form=form),), term=dense(5), positive_definite=form == "cholesky"
        )
        inputs = stand_ins.stand_in(problem)
        fn = inputs.function(
            choose(problem, Policy(), generic_profile()), "keep", modes_to_time(python_mode())
        )
        ops[form] = " ".join(op_names(fn))
    assert "Cholesky" in ops["cholesky"]
    assert "MatrixInverse" in ops["inverse"]
    assert "assume_a='sym'" in ops["sym"]
    assert "assume_a='gen'" in ops["gen"]


@pytest.mark.parametrize(("matrix", "given"), [(A, True), (P, True), (A.T, True), (A + 1, False)])
def test_a_matrix_that_is_computed_may_be_overwritten(matrix, given):
    fn = compile_with([A, b], [pt.linalg.solve(matrix, b), pt.linalg.slogdet(matrix)[1]])
    [decision] = plan(fn).decisions
    assert decision.problem.given is given


def test_there_is_no_stand_in_for_what_is_not_known():
    unknown = Problem((Request("solve"),), term=dense(None))
    jax = Problem((Request("solve"),), term=dense(5), linker=None)
    assert not any(map(stand_ins.has_stand_in, (unknown, jax)))
