"""The worked example of CONTRIBUTING.md runs."""

import re
from pathlib import Path

import numpy as np
import pytensor.tensor as pt
from helpers import chosen, compile_with, register, relative_error
from pytensor.assumptions import assume
from pytensor.tensor.linalg import solve


def test_the_strategy_of_the_example_serves(monkeypatch):
    text = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    exec(code, names)
    register(names["SymmetricIndefinite"](), monkeypatch)
    M, b = pt.matrix("M", shape=(6, 6)), pt.vector("b", shape=(6,))
    K = assume(M, symmetric=True)
    fn = compile_with([M, b], solve(K, b, assume_a="sym"), {"rules": [{"force": "ldl"}]})
    assert chosen(fn) == ["ldl"]
    value = np.random.default_rng(0).normal(size=(6, 6))
    value = value + value.T
    assert relative_error(fn(value, np.ones(6)), np.linalg.solve(value, np.ones(6))) < 1e-10
