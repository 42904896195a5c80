"""Block-diagonal matrices, of square blocks of any orders."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import mul
from typing import ClassVar

import pytensor.tensor as pt
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.linalg.constructors import BlockDiagonal as BlockDiagonalOp
from pytensor.tensor.linalg.constructors import block_diag

from autotune.algebra.composite import Composite, CompositeSolver
from autotune.problem import known
from cost_models import call

# What NumPy takes in one elementwise operation.
MOST_OPERANDS = 32


class BlockDiagonal(Composite):
    """``diag(A, B, ...)``: each block is solved with its own rows of the right-hand side.

    Log-determinants are added, signs multiplied; the inverse is block-diagonal. Nothing n x n is made but
    what is asked for.
    """

    kind: ClassVar[str] = "block_diagonal"
    combines: ClassVar[str] = "total"

    @classmethod
    def read(cls, var, part_of):
        """Blocks of blocks are blocks."""
        blocks = _blocks(var)
        return None if len(blocks) == 1 else cls.of([part_of(block) for block in blocks])

    @property
    def order(self):
        return sum(child.operator.order for child in self.children)

    def to_dense(self):
        return block_diag(*(child.operator.to_dense() for child in self.children))

    def diagonal(self):
        return pt.concatenate([child.operator.diagonal() for child in self.children])

    def scale(self, s):
        return BlockDiagonal(tuple(child.scale(s) for child in self.children))

    def matmul(self, x):
        orders = [child.operator.order for child in self.children]
        rows = zip(self.children, split_rows(x, orders), strict=True)
        return pt.concatenate([child.operator.matmul(own) for child, own in rows], axis=0)

    @staticmethod
    def asks(term, request, place):
        kind = {"determinant": "logdet", "inv_quad": "solve"}.get(request.kind, request.kind)
        return [replace(request, kind=kind)]

    @staticmethod
    def between(term, request):
        n = known(term.n)
        if request.kind in ("solve", "inv_quad"):
            return [call("stream", n=n * known(request.columns))]
        return [call("stream", n=n * n)] if request.kind in ("inverse", "factor") else []

    def solver(self, solvers):
        return BlockDiagonalSolver(self.children, solvers)


class BlockDiagonalSolver(CompositeSolver):
    def solve(self, rhs, transposed=False):
        rows = enumerate(split_rows(rhs, self.orders))
        return pt.concatenate([self.ask(place, "solve", own, transposed)[0] for place, own in rows], axis=0)

    def logdet(self):
        signs, logs = zip(*self.ask_all("logdet"), strict=True)
        if len(logs) < MOST_OPERANDS:
            return reduce(mul, signs), sum(logs[1:], logs[0])
        # as a product of vectors: PyTensor makes one elementwise sum of any other
        return pt.stack(signs).prod(), pt.stack(logs) @ pt.ones(len(logs), dtype=logs[0].type.dtype)

    def is_positive_definite(self):
        return pt.stack([found for [found] in self.ask_all("is_positive_definite")]).all()

    def inverse(self):
        return block_diag(*(found for [found] in self.ask_all("inverse")))

    def factor(self):
        return block_diag(*(found for [found] in self.ask_all("factor")))

    def inverse_diagonal(self):
        return pt.concatenate([found for [found] in self.ask_all("inverse_diagonal")])


def _blocks(var) -> list:
    match var.owner_op_and_inputs:
        case (Blockwise(core_op=BlockDiagonalOp()), *blocks) if all(b.type.ndim == 2 for b in blocks):
            return [inner for block in blocks for inner in _blocks(block)]
    return [var]


def split_rows(x, orders) -> list:
    """The rows of each block. More or fewer rows than the orders add up to are refused."""
    return pt.split(x, splits_size=orders, n_splits=len(orders), axis=0)
