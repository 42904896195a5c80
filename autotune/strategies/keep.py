"""PyTensor's own lowering, priced like the others and always a candidate."""

from __future__ import annotations

from functools import cached_property

import pytensor.tensor as pt
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.linalg.decomposition.cholesky import cholesky
from pytensor.tensor.linalg.inverse import matrix_inverse
from pytensor.tensor.linalg.solvers.general import solve
from pytensor.tensor.linalg.solvers.psd import cho_solve
from pytensor.tensor.linalg.solvers.triangular import solve_triangular
from pytensor.tensor.linalg.summary import SLogDet, det

from autotune.problem import REQUEST_KINDS, Problem
from autotune.strategies.base import No, Solver, Strategy, Work, forming, outer_products, peak_of, times
from cost_models import call


class KeepStrategy(Strategy):
    """Leave the graph as written.

    Priced as PyTensor 3.3 lowers it: positive-definite solves share a Cholesky factor, made from a
    transposed copy or by the slower of potrf's two triangles; several general solves share an LU, symmetric
    ones factorise each; an inverse is getrf and getri, and in a gradient graph it is multiplied with what it
    is contracted with; a determinant uses a factor that exists; the pullback of Cholesky is two n x n
    triangular solves and a product.
    """

    name = "keep"
    provides = frozenset(REQUEST_KINDS)
    dtypes = ("float32", "float64")

    def declines(self, problem, options):
        """Only what PyTensor gets wrong: it takes the logarithm of a determinant at hand, which overflows,
        and what a solve promises of its matrix for a fact about every other use of it.

        Who demands PyTensor's own lowering gets it.
        """
        if options.forced:
            return None
        promised = any(r.checked and r.form == "pos" for r in problem.requests)
        if promised and not problem.positive_definite and problem.linker is not None:
            return No("it would take assume_a='pos' of one solve for a fact about the other requests")
        lu_kinds = {r.kind for r in problem.requests if r.form == "lu"}
        if lu_kinds >= {"logdet", "determinant"} and problem.linker is not None:
            return No("its log-determinant would be the logarithm of a determinant that can overflow")
        return None

    def work(self, problem: Problem, options) -> Work:
        calls = [*_factorisations(problem), *forming(problem)]
        if problem.differentiated:
            calls += [*_backward(problem), *outer_products(problem)]
        held = 1 + _copies(problem)
        return Work(times(problem.batch, calls), peak_of(problem, value=held, gradient=held + 2))

    def solver(self, system, options):
        return PlainSolver(system.operator.to_dense(), system.positive_definite, system.symmetric)


def _factorisations(problem):
    n = problem.n
    solves = {form: [r for r in problem.requests if r.kind == "solve" and r.form == form] for form in FORMS}
    factor_idioms = [r for r in problem.requests if r.form == "cholesky"]
    calls = []
    has_cholesky = bool(solves["pos"] or factor_idioms)
    if has_cholesky:
        calls += [call("potrf", n=n), call("transpose", m=n, n=n)]
    calls += [call("potrs", n=n, m=r.columns) for r in solves["pos"] + solves["cholesky"]]
    calls += [call("trsm", n=n, m=r.columns) for r in factor_idioms if r.kind == "inv_quad"]
    calls += [call("sysv", n=n, m=r.columns) for r in solves["sym"]]
    general = solves["gen"]
    if len(general) == 1:
        calls.append(call("gesv", n=n, m=general[0].columns))
    elif general:
        calls += [call("getrf", n=n), *(call("getrs", n=n, m=r.columns) for r in general)]
    if any(r.form == "lu" for r in problem.requests) and not has_cholesky and len(general) < 2:
        calls.append(call("slogdet", n=n))
    if any(r.kind in ("inverse", "inverse_diagonal") or r.form == "inverse" for r in problem.requests):
        calls.append(call("inv", n=n))
    contracted = [r for r in problem.requests if r.kind == "solve" and r.form == "inverse"]
    calls += [call("gemm", m=n, n=r.columns, k=n) for r in contracted]
    return calls


def _copies(problem) -> int:
    """Matrices made beside the one given: an inverse; LU factors, where no Cholesky factor serves instead."""
    forms = {r.form for r in problem.requests}
    by_lu = bool(forms & {"gen", "sym", "lu"}) and not forms & {"pos", "cholesky"}
    return by_lu + problem.asks("inverse")


FORMS = ("gen", "sym", "pos", "cholesky")


def _backward(problem):
    """Autodiff through PyTensor's own Ops, the outer products of solves apart."""
    n = problem.n
    calls = []
    if any(r.form == "cholesky" for r in problem.requests):
        calls += [
            call("trsm", n=n, m=n, count=2),
            call("gemm", m=n, n=n, k=n),
            call("stream", n=n * n, count=4),
        ]
    for r in problem.requests:
        if r.kind in ("solve", "inv_quad"):
            factor = {"cholesky": "trsm", "pos": "potrs", "sym": "sysv"}.get(r.form, "getrs")
            calls.append(call(factor, n=n, m=r.columns))
        elif r.form == "lu":
            calls.append(call("inv", n=n))
        elif r.kind == "inverse":
            calls.append(call("gemm", m=n, n=n, k=n, count=2))
    return calls


class PlainSolver(Solver):
    """The plain dense algorithms in PyTensor's own Ops: inner graph of every request Op."""

    def __init__(self, matrix, positive_definite, symmetric):
        self.matrix = matrix
        self.positive_definite = positive_definite
        self.assume_a = "pos" if positive_definite else "sym" if symmetric else "gen"

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        if checked and not self.positive_definite:
            return self._checked.answer(kind, rhs, transposed)
        return super().answer(kind, rhs, transposed)

    @cached_property
    def _checked(self):
        return CheckedSolver(self.matrix, True, True)

    @cached_property
    def _factor(self):
        return cholesky(self.matrix, lower=True)

    def factor(self):
        return self._factor

    def solve(self, rhs, transposed=False):
        matrix = self.matrix.mT if transposed and self.assume_a == "gen" else self.matrix
        return solve(matrix, rhs, assume_a=self.assume_a, b_ndim=2)

    def inv_quad(self, rhs):
        if self.positive_definite:
            return pt.sqr(solve_triangular(self.factor(), rhs, lower=True, b_ndim=2)).sum(axis=-2)
        return super().inv_quad(rhs)

    def logdet(self):
        if not self.positive_definite:
            return Blockwise(SLogDet())(self.matrix)
        logabsdet = 2 * pt.log(self._factor_diagonal()).sum(axis=-1)
        return pt.switch(pt.isnan(logabsdet), logabsdet, pt.ones_like(logabsdet)), logabsdet

    def determinant(self):
        return det(self.matrix)

    def inverse(self):
        return matrix_inverse(self.matrix)

    def inverse_diagonal(self):
        return pt.diagonal(self.inverse(), axis1=-2, axis2=-1)

    def is_positive_definite(self):
        return pt.all(self._factor_diagonal() > 0, axis=-1)

    def _factor_diagonal(self):
        return pt.diagonal(self.factor(), axis1=-2, axis2=-1)


class CheckedSolver(PlainSolver):
    """What is asked of a Cholesky factor that the matrix may not have.

    By the factor: of a solve with ``assume_a="pos"`` PyTensor believes it of all that is asked of the matrix.
    """

    def solve(self, rhs, transposed=False):
        return cho_solve((self.factor(), True), rhs, b_ndim=2)
