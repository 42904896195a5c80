"""What is known of the iterations when a graph is compiled: declared, by the structure, and by a probe."""

import json
import logging
import math
import pickle
from dataclasses import replace

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import chosen, python_mode, relative_error
from pytensor.assumptions import assume

import autotune
from autotune.choose import Options, choose, strategy
from autotune.choosing.candidates import GUARD
from autotune.ops import core_cg
from autotune.policy.files import load_policy
from autotune.probing import probe
from autotune.probing.bounds import bound, is_uniform
from autotune.probing.examples import Examples, examples_from, joined
from autotune.probing.spectrum import NEVER, Convergence, Spectrum
from autotune.probing.trial import try_out
from autotune.problem import Problem, Request
from autotune.recognise import recognise
from autotune.strategies.iterations import SHARE_OF_BOUND, expected_iterations, iterations_to_allow
from cost_models import generic_profile

PROFILE = generic_profile()
PLAIN = ("none", None)
DENSE = Problem(requests=(Request("solve", 1, form="pos"),), n=4000, positive_definite=True, symmetric=True)


def uniform(n, condition):
    return np.linspace(1, condition, n)


def geometric(n, condition):
    return np.geomspace(1, condition, n)


def clustered(n, condition):
    """Ten eigenvalues, each with a cluster around it."""
    return np.sort(np.resize(np.geomspace(1, condition, 10), n) * np.linspace(1, 1.01, n))


SPECTRA = (uniform, geometric, clustered)


def reflected(eigenvalues, seed=0):
    """A dense matrix with these eigenvalues: two Householder reflections of the diagonal one."""
    A, rng = np.diag(np.asarray(eigenvalues, dtype=float)), np.random.default_rng(seed)
    for v in rng.normal(size=(2, len(A))):
        H = np.eye(len(A)) - 2 * np.outer(v, v) / (v @ v)
        A = H @ A @ H
    return (A + A.T) / 2


def gaussian_kernel(n, lengthscale, noise, seed=0, dims=1):
    X = np.random.default_rng(seed).uniform(size=(n, dims))
    distances = ((X[:, None] - X[None]) ** 2).sum(axis=-1)
    return np.exp(-0.5 * distances / lengthscale**2) + noise * np.eye(n)


def stiffness(n):
    """Linear finite elements on an interval, the elements' lengths a factor of 1e4 apart."""
    k = 1 / np.geomspace(1e-4, 1, n + 1)
    return np.diag(k[:-1] + k[1:]) - np.diag(k[1:-1], 1) - np.diag(k[1:-1], -1)


def iterations_taken(A, rtol, seed=3):
    """By the textbook recurrence, without a preconditioner."""
    b = np.random.default_rng(seed).normal(size=len(A))
    r, p, rho = b.copy(), b.copy(), b @ b
    for used in range(1, 4 * len(A)):
        q = A @ p
        r -= rho / (p @ q) * q
        rho, before = r @ r, rho
        if math.sqrt(rho) <= rtol * np.linalg.norm(b):
            return used
        p = r + rho / before * p
    return used


def decide(problem, **policy):
    return choose(problem, load_policy(policy, layers=False), PROFILE)


def decided_on(A, n=None, **policy):
    """The choice for a solve with a matrix like A; of order ``n``, with the spectrum of A."""
    kinds = probe.kinds_to_try(replace(DENSE, n=len(A)), load_policy(policy, layers=False))
    found = try_out(A, kinds, probe.MOST_PRODUCTS)
    return decide(replace(DENSE, n=n or len(A), spectrum=found), **policy)


# -- how well iterations are known -------------------------------------------------------------------


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("condition", [10, 100])
def test_a_probe_knows_the_iterations(spectrum, condition):
    A = reflected(spectrum(300, condition))
    [found] = try_out(A, [PLAIN], 60).convergence
    for rtol in (1e-2, 1e-5, 1e-8, 1e-10):
        assert 0.8 <= found.iterations(rtol) / iterations_taken(A, rtol) <= 1.25
    assert 0.8 * condition < found.condition_number < 1.1 * condition


def test_a_probe_that_stops_early_goes_on_at_the_rate_it_saw():
    A = reflected(geometric(300, 300))
    [found] = try_out(A, [PLAIN], 20).convergence
    assert len(found.decades) < 6
    assert 0.6 <= found.iterations(1e-10) / iterations_taken(A, 1e-10) <= 1.7


def test_estimates_from_a_condition_number_are_within_a_factor_of_three():
    """Uniform, geometric and clustered spectra, the spectrum unknown; the median within 1.3."""
    factors = []
    for n in (400, 1500):
        for condition in (10, 100, 1000):
            for spectrum in SPECTRA:
                A = Diagonal(spectrum(n, condition))
                for rtol in (1e-2, 1e-6, 1e-10):
                    options = Options(condition_number=condition, solve_rtol=rtol)
                    ratio = expected_iterations(replace(DENSE, n=n), options) / iterations_taken(A, rtol)
                    factors.append(max(ratio, 1 / ratio))
    assert np.median(factors) <= 1.3
    assert max(factors) <= 3.0


class Diagonal:
    """``diag(d)`` as iterations see it; conjugate gradients do not depend on the basis."""

    def __init__(self, d):
        self.d = d

    def __len__(self):
        return len(self.d)

    def __matmul__(self, x):
        return self.d * x


@pytest.mark.parametrize("kind", [PLAIN, ("jacobi", None), ("pivoted_cholesky", 20)])
def test_a_probe_knows_the_iterations_under_each_preconditioner(kind):
    A = gaussian_kernel(400, 0.3, 1e-2, dims=2)
    parts = probing_parts(A, kind)
    b = np.random.default_rng(5).normal(size=(400, 1))
    found = next(c for c in try_out(A, [PLAIN, kind], 60).convergence if (c.preconditioner, c.rank) == kind)
    for rtol in (1e-3, 1e-6):
        used = core_cg.block_cg(core_cg.as_operator(A), b, rtol, 400, parts, np.zeros((0, 0)))[1]
        assert 0.7 <= found.iterations(rtol) / used <= 1.4


def probing_parts(A, kind):
    from autotune.ops import core_preconditioner
    from autotune.probing.trial import rank_of

    return core_preconditioner.build(A, rank_of(kind))


def test_a_tolerance_below_rounding_is_never_reached():
    A = gaussian_kernel(600, 0.3, 1e-6)
    found = try_out(A, [PLAIN, ("pivoted_cholesky", 30)], 60)
    assert [c.iterations(1e-10) for c in found.convergence] == [NEVER, NEVER]
    assert found.under("pivoted_cholesky", 30).iterations(1e-6) < 20


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, -1.0])
def test_what_is_not_positive_definite_is_not_known(spoilt):
    A = reflected(geometric(50, 10))
    A[3, 3] = spoilt
    assert try_out(A, [PLAIN], 30) is None


def test_iterations_do_not_fall_as_the_tolerance_does():
    found = Convergence("none", None, 10.0, (3, 7, 7, 12), 4.5)
    rtols = np.logspace(-0.1, -12, 60)
    counts = [found.iterations(rtol) for rtol in rtols]
    assert counts == sorted(counts)
    assert [found.iterations(r) for r in (0.1, 1e-2, 1e-4, 1e-6)] == [3, 7, 12, 21]


def test_a_declared_condition_number_wins_over_a_probe():
    known = replace(DENSE, spectrum=Spectrum("probe", None, (Convergence("none", None, 2.0, (1, 1), 0.5),)))
    declared, told = Options(condition_number=100.0), Options()
    assert expected_iterations(known, declared) == expected_iterations(DENSE, declared)
    assert expected_iterations(known, told) == 5
    assert expected_iterations(DENSE, told) == 4000


def test_a_guard_allows_the_whole_of_the_bound():
    """What is declared must not end in a fallback, though the price counts fewer iterations."""
    options = Options(condition_number=100.0)
    expected, allowed = (f(DENSE, options) for f in (expected_iterations, iterations_to_allow))
    assert allowed == pytest.approx(expected / SHARE_OF_BOUND, abs=2)
    assert iterations_taken(reflected(geometric(300, 100)), options.solve_rtol) <= allowed


# -- what the structure tells --------------------------------------------------------------------------


N, RANK = 60, 4
U, d, s = pt.matrix("U", shape=(N, RANK)), pt.vector("d", shape=(N,)), pt.scalar("s")


@pytest.mark.parametrize(
    ("matrix", "eigenvalues"),
    [
        (U @ U.T + s**2 * pt.eye(N), RANK + 1),
        (U @ U.T + 1e-3 * pt.eye(N), RANK + 1),
        (U @ U.T + pt.diag(pt.alloc(s, N)), RANK + 1),
        (U @ U.T + pt.diag(d), None),
        (U @ U.T + pt.diag(s * d), None),
        (U @ U.T + np.diag(np.arange(1.0, N + 1)), None),
    ],
    ids=["scaled", "constant", "alloc", "diagonal", "scaled-diagonal", "constants"],
)
def test_a_scaled_identity_plus_low_rank_has_few_eigenvalues(matrix, eigenvalues):
    found = bound(recognise(matrix), N, RANK)
    assert (None if found is None else found.eigenvalues) == eigenvalues


def test_as_many_iterations_as_eigenvalues_suffice():
    rng = np.random.default_rng(0)
    for k in (1, 5, 20):
        V = rng.normal(size=(200, k))
        assert iterations_taken(V @ V.T + 0.1 * np.eye(200), 1e-8) <= k + 1
    known = replace(DENSE, spectrum=Spectrum("bound", 21))
    assert expected_iterations(known, Options()) == 21
    assert expected_iterations(known, Options(condition_number=2.0)) < 21


def test_entries_are_the_same_only_where_that_is_proven():
    assert is_uniform(pt.alloc(s, N) * 2 + 1)
    assert not is_uniform(pt.alloc(s, N) * d)
    assert not is_uniform(pt.as_tensor(np.zeros(0)))


# -- the choice, as a pure function ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "n"),
    [
        (lambda: gaussian_kernel(1000, 0.3, 1e-3), 4000),
        (lambda: stiffness(400), 4000),
        (lambda: reflected(geometric(400, 1e8)), 4000),
    ],
    ids=["kernel", "stiffness", "condition-1e8"],
)
def test_what_converges_slowly_is_solved_directly(make, n):
    assert decided_on(make(), n).chosen not in ("cg", "lanczos")


def test_the_finite_element_matrix_is_ill_conditioned():
    assert 1e6 < np.linalg.cond(stiffness(400)) < 1e8


@pytest.mark.parametrize(
    ("make", "n", "policy"),
    [
        (lambda: reflected(geometric(400, 10)), 4000, {}),
        (lambda: gaussian_kernel(400, 0.3, 20.0, dims=2), 8000, {}),
        (lambda: gaussian_kernel(400, 0.3, 1e-1, dims=2), 4000, {"accuracy": {"solve_rtol": 1e-6}}),
    ],
    ids=["condition-10", "strong-noise", "preconditioned"],
)
def test_what_converges_fast_is_iterated_on(make, n, policy):
    decision = decided_on(make(), n, **policy)
    assert decision.chosen == "cg"
    assert decision.candidate("cg").seconds < decision.candidate("cholesky").seconds


def test_a_sum_with_a_dense_and_a_low_rank_term_is_iterated_on_when_probed():
    """Woodbury's identity does not serve it."""
    V = np.random.default_rng(0).normal(size=(400, 10)) / 20
    A = reflected(geometric(400, 4)) + V @ V.T + np.diag(np.linspace(0, 1, 400))
    problem = replace(DENSE, structure=("dense", "diagonal", "low_rank"), rank=10)
    kinds = probe.kinds_to_try(problem, load_policy({}, layers=False))
    decision = decide(replace(problem, spectrum=try_out(A, kinds, probe.MOST_PRODUCTS)))
    assert decision.chosen == "cg"
    assert decide(problem).chosen != "cg"


def test_the_preconditioner_is_the_one_of_the_least_predicted_time():
    decision = decided_on(gaussian_kernel(400, 0.3, 1e-1, dims=2), 4000, accuracy={"solve_rtol": 1e-6})
    assert decision.preconditioner.name == "pivoted_cholesky"
    for convergence in decision.problem.spectrum.convergence:
        given = {"name": convergence.preconditioner, "rank": convergence.rank}
        rules = [{"options": {"preconditioner": {k: v for k, v in given.items() if v is not None}}}]
        other = decide(decision.problem, accuracy={"solve_rtol": 1e-6}, rules=rules).candidate("cg")
        assert other.seconds is None or other.seconds >= decision.candidate("cg").seconds


def test_a_preconditioner_is_paid_for_from_the_budget():
    """Iterating in vain, the preconditioner included, costs at most a share of the direct way."""
    rules = [{"options": {"condition_number": 2, "preconditioner": {"name": "pivoted_cholesky", "rank": 60}}}]
    problem = replace(DENSE, n=8000)
    decision = decide(problem, rules=rules)
    options = Options(condition_number=2.0, preconditioner=decision.preconditioner)
    cg = strategy("cg")
    kernels = (*cg.guarded(problem, options), cg.preparation(problem, options))
    direct, step, setup = (sum(PROFILE.seconds(c, "float64") for c in calls) for calls in kernels)
    assert decision.max_iterations * step + setup <= GUARD * direct
    assert (decision.max_iterations + 1) * step + setup > GUARD * direct


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"name": "jacobi"}, ("jacobi", None)),
        ({"name": "pivoted_cholesky"}, ("pivoted_cholesky", 18)),
        ({"name": "pivoted_cholesky", "rank": 7}, ("pivoted_cholesky", 7)),
        ({"name": "pivoted_cholesky", "rank": 5000}, ("pivoted_cholesky", 300)),
    ],
)
def test_a_preconditioner_that_is_named_is_the_one_probed(given, kind):
    policy = {"accuracy": {"solve_rtol": 1e-6}, "rules": [{"options": {"preconditioner": given}}]}
    problem = replace(DENSE, n=300)
    kinds = probe.kinds_to_try(problem, load_policy(policy, layers=False))
    assert set(kinds) == {PLAIN, kind}
    found = try_out(reflected(geometric(300, 10)), kinds, 30)
    assert (
        "no condition number" not in decide(replace(problem, spectrum=found), **policy).candidate("cg").reason
    )


# -- from graph to choice ----------------------------------------------------------------------------


ORDER = 300
points = pt.matrix("points", shape=(ORDER, 2))
noise, rhs = pt.scalar("noise"), pt.vector("rhs", shape=(ORDER,))
INPUTS = [points, noise, rhs]
VALUES = {
    "points": np.random.default_rng(1).uniform(size=(ORDER, 2)),
    "noise": np.array(1.0),
    "rhs": np.random.default_rng(2).normal(size=ORDER),
}
FORCE = {"rules": [{"force": "cg"}]}


def kernel_solve():
    distances = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    K = assume(pt.exp(-distances) + noise * pt.eye(ORDER), positive_definite=True)
    K.name = "K"
    return pt.linalg.solve(K, rhs)


def compiled(policy=None, **given):
    mode = autotune.mode(policy, base=python_mode(), **given)
    return pytensor.function(INPUTS, kernel_solve(), mode=mode)


def spectrum_of(fn):
    [decision] = autotune.explain(fn).decisions
    return decision.problem.spectrum


@pytest.mark.parametrize("keys", ["variables", "names"])
def test_example_inputs_are_probed(keys):
    variables = dict(zip((points, noise, rhs), VALUES.values(), strict=True))
    fn = compiled(example_inputs=variables if keys == "variables" else VALUES)
    found = spectrum_of(fn)
    exact = np.linalg.cond(gaussian_kernel(ORDER, math.sqrt(0.5), 1.0, seed=1, dims=2))
    assert found.origin == "probe"
    assert found.under("none", None).condition_number == pytest.approx(exact, rel=0.1)
    assert found.products <= probe.MOST_PRODUCTS
    told = str(autotune.explain(fn))
    assert "probed: " in told
    assert f"{found.products} products" in " ".join(told.split())
    assert relative_error(fn(*VALUES.values()), compiled()(*VALUES.values())) < 1e-8


def test_examples_tell_sizes_that_types_do_not():
    A, b = pt.matrix("A"), pt.vector("b")
    given = {"A": reflected(geometric(ORDER, 10)), "b": VALUES["rhs"]}
    mode = autotune.mode(base=python_mode(), example_inputs=given)
    fn = pytensor.function([A, b], pt.linalg.solve(assume(A, positive_definite=True), b), mode=mode)
    [decision] = autotune.explain(fn).decisions
    assert decision.problem.n == ORDER
    assert decision.problem.spectrum is not None
    assert relative_error(fn(np.eye(5) * 2, np.ones(5)), np.full(5, 0.5)) < 1e-12


def test_a_right_hand_side_needs_no_example():
    given = {k: v for k, v in VALUES.items() if k != "rhs"}
    assert spectrum_of(compiled(example_inputs=given)) is not None


@pytest.mark.parametrize(
    ("policy", "given"),
    [
        ({}, {}),
        ({}, {"example_inputs": {"points": VALUES["points"]}}),
        ({"probe": False}, {"example_inputs": VALUES}),
        ({"probe": True}, {}),
        ({"rules": [{"force": "cholesky"}]}, {"example_inputs": VALUES}),
        ({"rules": [{"forbid": ["cg", "lanczos"]}]}, {"example_inputs": VALUES}),
        ({"rules": [{"options": {"condition_number": 5}}]}, {"example_inputs": VALUES}),
        ({"memory_limit": "1MB"}, {"example_inputs": VALUES}),
        ({}, {"example_inputs": VALUES | {"points": np.zeros((3, 3, 3))}}),
    ],
    ids=[
        "none",
        "one-missing",
        "not-allowed",
        "no-values",
        "forced",
        "forbidden",
        "declared",
        "memory",
        "misfit",
    ],
)
def test_nothing_is_probed_without_a_use_an_example_and_leave(policy, given):
    assert spectrum_of(compiled(policy, **given)) is None


def test_what_fails_on_the_example_is_told_and_compiled_all_the_same(caplog):
    mode = autotune.mode(base=python_mode(), example_inputs={"A": np.eye(ORDER), "shift": np.zeros(7)})
    A, shift = pt.matrix("A", shape=(ORDER, ORDER)), pt.vector("shift")
    K = assume(A + pt.diag(shift), positive_definite=True)
    K.name = "K"
    with caplog.at_level(logging.WARNING, logger="autotune"):
        fn = pytensor.function([A, shift, rhs], pt.linalg.solve(K, rhs), mode=mode)
    assert "could not probe matrix 'K'" in caplog.text
    assert relative_error(fn(np.eye(ORDER), np.ones(ORDER), VALUES["rhs"]), VALUES["rhs"] / 2) < 1e-12


def test_shared_variables_are_probed_where_the_policy_says_so():
    held = pytensor.shared(reflected(geometric(ORDER, 10)), name="A")
    x = pt.linalg.solve(assume(held, positive_definite=True), rhs)
    fns = [
        pytensor.function([rhs], x, mode=autotune.mode(policy, base=python_mode()))
        for policy in ({"probe": True}, None)
    ]
    assert spectrum_of(fns[0]).under("none", None).condition_number == pytest.approx(10, rel=0.1)
    assert spectrum_of(fns[1]) is None


def test_a_probe_leaves_shared_variables_as_they_are():
    count = pytensor.shared(np.array(1.0), name="count")
    K = assume(pt.eye(ORDER) * count + pt.eye(ORDER)[::-1] / 2, positive_definite=True)
    mode = autotune.mode({"probe": True}, base=python_mode())
    fn = pytensor.function([rhs], pt.linalg.solve(K, rhs), mode=mode, updates={count: count + 1})
    assert spectrum_of(fn).under("none", None).condition_number == pytest.approx(3, rel=0.1)
    assert count.get_value() == 1


def test_gradients_carry_what_was_probed():
    K = pt.matrix("A", shape=(ORDER, ORDER))
    given = {"A": reflected(geometric(ORDER, 10))}
    loss = rhs @ pt.linalg.solve(assume(K, positive_definite=True), rhs)
    tuned = autotune.tune(loss, FORCE, example_inputs=given)
    fn = pytensor.function([K, rhs], pt.grad(tuned, rhs), mode=autotune.mode(FORCE, base=python_mode()))
    assert chosen(fn) == ["cg"]
    assert spectrum_of(fn).origin == "probe"
    A, b = given["A"], VALUES["rhs"]
    assert relative_error(fn(A, b), 2 * np.linalg.solve(A, b)) < 1e-8


def test_an_example_unlike_the_values_costs_no_accuracy():
    fn = compiled(FORCE, example_inputs=VALUES)
    assert chosen(fn) == ["cg"]
    for given in (1e-4, 1e4):
        values = [VALUES["points"], np.array(given), VALUES["rhs"]]
        K = gaussian_kernel(ORDER, math.sqrt(0.5), given, seed=1, dims=2)
        residual = K @ fn(*values) - VALUES["rhs"]
        assert np.linalg.norm(residual) <= 1e-9 * np.linalg.norm(VALUES["rhs"])


def test_a_plan_with_a_probe_is_valid_json():
    [data] = json.loads(autotune.explain(compiled(example_inputs=VALUES)).to_json())["decisions"]
    assert data["problem"]["spectrum"]["origin"] == "probe"


def test_enabled_examples_reach_every_compile_and_end_with_the_block():
    with autotune.enabled(example_inputs=VALUES):
        fn = pytensor.function(INPUTS, kernel_solve(), mode=python_mode())
    assert spectrum_of(fn) is not None
    with autotune.enabled():
        fn = pytensor.function(INPUTS, kernel_solve(), mode=python_mode())
    assert spectrum_of(fn) is None


def test_pins_make_the_same_choice_without_a_probe(tmp_path):
    fn = compiled(FORCE, example_inputs=VALUES)
    decision = autotune.explain(fn).decisions[0]
    assert decision.preconditioner is not None or decision.condition_number is not None
    again = compiled(autotune.explain(fn).save(tmp_path / "pins.yaml"))
    pinned = autotune.explain(again).decisions[0]
    for key in ("chosen", "preconditioner", "condition_number", "max_iterations", "solve_rtol"):
        assert getattr(pinned, key) == getattr(decision, key)
    np.testing.assert_array_equal(fn(*VALUES.values()), again(*VALUES.values()))


def test_the_same_example_gives_the_same_plan():
    first, second = (autotune.explain(compiled(example_inputs=VALUES)) for _ in range(2))
    assert first == second
    assert hash(first.decisions) == hash(second.decisions)


# -- examples as values ----------------------------------------------------------------------------


def test_modes_and_functions_with_examples_can_be_pickled():
    fn = compiled(example_inputs=VALUES)
    again = pickle.loads(pickle.dumps(fn))
    assert autotune.explain(again).decisions == autotune.explain(fn).decisions
    mode = pickle.loads(pickle.dumps(autotune.mode(base=python_mode(), example_inputs=VALUES)))
    assert spectrum_of(pytensor.function(INPUTS, kernel_solve(), mode=mode)) is not None


def test_examples_are_equal_where_their_arrays_are():
    first, second = Examples(VALUES), Examples({points: VALUES["points"], **VALUES})
    assert first == second
    assert hash(first) == hash(second)
    assert first != Examples(VALUES | {"noise": np.array(2.0)})
    assert joined(None, first, Examples({"noise": 2.0}))["noise"] == 2.0
    assert joined(None, None) is None


def test_examples_do_not_change_with_the_array_given():
    given = np.ones((2, 2))
    examples = Examples({"K": given})
    given[0, 0] = 7
    assert examples["K"][0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        examples["K"][0, 0] = 7


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ([1, 2], TypeError, "found list; give a mapping"),
        ({pt.matrix(): np.ones((2, 2))}, ValueError, "without a name; name the variable"),
        ({points: np.ones(3)}, TypeError, "'points' does not fit"),
        ({3: np.ones(3)}, ValueError, "found 3 without a name"),
    ],
)
def test_malformed_examples_are_errors_at_the_door(given, error, told):
    with pytest.raises(error, match=told):
        autotune.mode(example_inputs=given)
    with pytest.raises(error, match=told):
        examples_from(given)


# -- accuracy on both sides --------------------------------------------------------------------------


@pytest.mark.parametrize("rtol", [1e-4, 1e-10])
def test_iterative_and_direct_results_agree_to_the_tolerance_at_every_size(rtol):
    """Nothing in the values tells where the choice turns from one to the other."""
    A, b = pt.matrix("A"), pt.vector("b")
    x = pt.linalg.solve(assume(A, positive_definite=True), b)
    fns = [
        pytensor.function(
            [A, b],
            x,
            mode=autotune.mode(
                {"accuracy": {"solve_rtol": rtol}, "rules": [{"force": name}]}, base=python_mode()
            ),
        )
        for name in ("cg", "cholesky")
    ]
    for n in (50, 51, 199, 200, 201, 400):
        values = reflected(geometric(n, 10), seed=n), np.random.default_rng(n).normal(size=n)
        found, exact = (fn(*values) for fn in fns)
        assert np.linalg.norm(values[0] @ (found - exact)) <= 1.01 * rtol * np.linalg.norm(values[1])
