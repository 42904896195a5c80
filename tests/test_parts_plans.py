"""Plans of Kronecker products and block-diagonal matrices: one tree, saved and found again with its parts."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import compile_raw, compile_with, in_turn, op_names, python_mode, relative_error, spd
from pytensor.assumptions import assume
from pytensor.tensor.linalg import block_diag, inv, kron, slogdet, solve

import autotune

RNG = np.random.default_rng(3)
VALUES = [spd(4, RNG), spd(3, RNG), RNG.normal(size=(5, 1)), RNG.uniform(1, 2, 5)]
BY_PARTS = {"rules": [{"match": {"structure": ["kronecker", "block_diagonal"]}, "forbid": "keep"}]}
WHOLE = {
    "kron": lambda A, B, thin: kron(A, B),
    "kron with thin": lambda A, B, thin: kron(B, thin),
    "blocks": lambda A, B, thin: block_diag(A, thin, B),
    "blocks of products": lambda A, B, thin: block_diag(kron(A, B), thin),
}
LOSSES = {
    "solve": lambda K, y: y @ solve(K, y) + slogdet(K)[1],
    "inverse": lambda K, y: y @ inv(K) @ y,
    "logdet": lambda K, y: slogdet(K)[1],
}


CASES = list(product(WHOLE, LOSSES, [True, False], [None, BY_PARTS]))


@pytest.mark.parametrize(("form", "loss", "known", "policy"), in_turn(CASES, 14))
def test_a_saved_plan_with_gradients_compiles_again(form, loss, known, policy, tmp_path, caplog):
    inputs = [
        pt.tensor(name, dtype="float64", shape=v.shape if known else (None,) * v.ndim)
        for name, v in zip("ABUd", VALUES, strict=True)
    ]
    A, B, U, d = inputs
    K = WHOLE[form](A, B, pt.diag(d) + U @ U.T)
    value = LOSSES[loss](K, pt.ones(K.shape[0]))
    outputs = [value, *pt.grad(value, inputs, disconnected_inputs="ignore")]

    # with its Gemm, PyTensor 3.3.8 cannot run the shape of a Kronecker product of one
    base = python_mode().excluding("BlasOpt")

    def compiled(policy):
        return compile_with(inputs, outputs, policy, base)

    fn = compiled(policy)
    pins = autotune.explain(fn).save(tmp_path / "pins.yaml")
    again = compiled(pins)
    assert "finds nothing" not in caplog.text
    assert not autotune.explain(fn).diff(autotune.explain(again))
    assert sorted(op_names(again)) == sorted(op_names(fn))
    plain = compile_raw(inputs, outputs, base)
    for mine, right in zip(again(*VALUES), plain(*VALUES), strict=True):
        assert relative_error(mine, right) < 1e-9


def test_pins_of_parts_whose_order_is_known_after_autodiff_only(tmp_path, caplog):
    like = pytensor.shared(np.ones(4), name="like")
    B, d, u, y = pt.matrix("B", shape=(3, 3)), pt.vector("d"), pt.vector("u"), pt.vector("y")
    K = kron(B, pt.eye(like.shape[0]) * d + pt.outer(u, u))
    value = solve(K, y).sum()
    outputs = [value, pt.grad(value, B)]
    fn = compile_with([B, d, u, y], outputs, {"rules": [{"match": {"part": "B"}, "forbid": "keep"}]})
    [whole] = autotune.explain(fn).decisions
    assert [(part.problem.part, part.problem.n) for part in whole.parts] == [("A", 3), ("B", 4)]
    assert whole.parts[1].chosen != "keep"
    pins = autotune.explain(fn).save(tmp_path / "pins.yaml")
    again = compile_with([B, d, u, y], outputs, pins)
    assert "finds nothing" not in caplog.text
    assert not autotune.explain(fn).diff(autotune.explain(again))


FIRST_COMPILE = """
import pytensor, pytensor.tensor as pt, autotune
from pytensor.compile.mode import Mode
A, B = pt.matrix("A", shape=(4, 4)), pt.matrix("B", shape=(3, 3))
K = pt.linalg.kron(A, B)
value = pt.linalg.solve(K, pt.ones(12)).sum() + pt.linalg.slogdet(K)[1]
mode = autotune.mode({"rules": [{"force": "lu"}]}, base=Mode("py", "fast_run"))
fn = pytensor.function([A, B], [value, *pt.grad(value, [A, B])], mode=mode)
print([str(node.op) for node in fn.maker.fgraph.apply_nodes if "AsWritten" in str(node.op)])
"""


def test_the_first_function_of_a_process_has_no_marks_left():
    found = subprocess.run([sys.executable, "-c", FIRST_COMPILE], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("known", [True, False])
def test_a_diagonal_part_is_never_made_a_matrix(known):
    A = pt.matrix("A", shape=(4, 4) if known else (None, None))
    d = pt.vector("d", shape=(5,) if known else (None,))
    K = kron(pt.diag(d), assume(A, positive_definite=True))
    value = pt.diagonal(inv(K)).sum() + slogdet(K)[1]
    fn = compile_with([A, d], [value, *pt.grad(value, [A, d])], BY_PARTS)
    assert not any("Request" in name or "AllocDiag" in name for name in op_names(fn))
    given = VALUES[0], VALUES[3]
    expected = np.kron(np.diag(given[1]), given[0])
    right = np.diag(np.linalg.inv(expected)).sum() + np.linalg.slogdet(expected)[1]
    assert relative_error(fn(*given)[0], right) < 1e-10
