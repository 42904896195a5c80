"""By a spectrum: of constants, found at compile time, or of the factors of a Kronecker product."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt

from autotune.algebra.kronecker_noise import KroneckerNoise, along_axes, eigenvalues, orders_of
from autotune.algebra.pencil import Pencil, basis_of, multiple_of_identity
from autotune.algebra.solver import Solver
from autotune.problem import REQUEST_KINDS, Problem, known
from autotune.strategies.base import No, Strategy, Work, times
from cost_models import call


class SpectrumStrategy(Strategy):
    """``K = M diag(e) M'`` with a constant M: ``K^-1 = P diag(1 / e) P'``, ``det K = det(D) prod(e)``.

    Or ``K = t I + M diag(c) M'`` with constant orthonormal columns M, on whose complement K is t. Golub & Van
    Loan 2013, section 8.7; in mixed models Kang et al. 2008, "Efficient control of population structure in
    model organism association mapping". Or ``K = F_1 kron F_2 + t I`` by the eigenproblems of the factors.
    """

    name = "spectrum"
    provides = frozenset(REQUEST_KINDS) - {"factor"}
    structured = True

    def concerns(self, problem):
        low_rank = problem.term.find("low_rank")
        thin = problem.structure == ("diagonal", "low_rank") and low_rank.fact("orthonormal")
        return problem.structure in (("pencil",), ("kronecker_noise",)) or bool(thin)

    def objects_to(self, problem, options):
        return (
            None
            if self.concerns(problem)
            else No("the matrix is not made of constants and scalars, or a Kronecker product plus noise")
        )

    def work(self, problem: Problem, options) -> Work:
        if problem.structure == ("kronecker_noise",):
            return _of_factors(problem)
        n, batch = known(problem.n), known(problem.batch)
        k = known(problem.term.sizes().get("rank", n))
        calls, held = [call("stream", n=k * batch)], 2 * n * batch
        for r in problem.requests:
            if r.kind in ("solve", "inv_quad"):
                m = known(r.columns) * batch  # of all matrices, whose eigenvectors are the same
                # The solution is asked for in a gradient by the right-hand side.
                twice = r.kind == "solve" or problem.differentiated
                calls += [call("gemm", m=n, n=m, k=k, count=2 if twice else 1), call("stream", n=n * m)]
                held += 3 * n * m
            elif r.kind == "inverse":
                calls += [call("gemm", m=n, n=n, k=k, count=batch)] * (3 if problem.differentiated else 1)
                held += 2 * n * n * batch
            elif r.kind == "inverse_diagonal":
                calls += [call("gemm", m=n, n=batch, k=k, count=2 if problem.differentiated else 1)]
        return Work(tuple(calls), problem.itemsize * held)

    def solver(self, system, options):
        operator = system.operator.unmarked
        if isinstance(operator, KroneckerNoise):
            return KroneckerNoiseSolver(operator)
        return (PencilSolver if isinstance(operator, Pencil) else ThinSolver)(operator)


def _of_factors(problem: Problem) -> Work:
    """An eigenproblem for each factor, and a product along each axis."""
    n, orders = known(problem.n), orders_of(problem.term)
    calls = [*(call("syevr", n=p) for p in orders), call("stream", n=n)]
    twice = 3 if problem.differentiated else 1
    columns = 0
    for r in problem.requests:
        m = known(r.columns) if r.kind in ("solve", "inv_quad") else n if r.kind == "inverse" else 0
        columns += m
        for p in orders:
            calls += [call("gemm", m=p, n=n // max(p, 1) * m, k=p, count=2 * twice)]
            calls += [call("transpose", m=n, n=m, count=2 * twice)]
    held = 4 * n * columns + 2 * sum(p * p for p in orders)
    return Work(times(problem.batch, calls), problem.itemsize * held * known(problem.batch))


class SpectrumSolver(Solver):
    """Where a Cholesky factor is asked for and some eigenvalue is not positive, every answer is NaN."""

    e: Any

    def answer(self, kind, rhs=None, transposed=False, checked=False):
        found = super().answer(kind, rhs, transposed)
        if not checked or kind == "is_positive_definite":
            return found
        definite = self.is_positive_definite()
        return [pt.switch(definite, x, np.full((), np.nan, x.type.dtype)) for x in found]

    def is_positive_definite(self):
        return pt.all(self.e > 0)


class PencilSolver(SpectrumSolver):
    def __init__(self, operator):
        basis: Any = basis_of(operator)
        self.operator, self.dual, self.e = operator, basis.dual, basis.eigenvalues

    def solve(self, rhs, transposed=False):
        return self.dual @ (self.dual.T @ rhs / self.e[:, None])

    def inv_quad(self, rhs):
        return (pt.sqr(self.dual.T @ rhs) / self.e[:, None]).sum(axis=0)

    def logdet(self):
        logabsdet = pt.log(pt.abs(self.e)).sum()
        if self.operator.d is not None:
            logabsdet += pt.log(self.operator.d).sum()
        return pt.prod(pt.sign(self.e)), logabsdet

    def inverse(self):
        return (self.dual / self.e) @ self.dual.T

    def inverse_diagonal(self):
        return pt.sqr(self.dual) @ pt.reciprocal(self.e)


class ThinSolver(SpectrumSolver):
    """In the range of M and in its complement: projections are constant if the right-hand side is."""

    def __init__(self, operator):
        basis: Any = basis_of(operator)
        self.dual, self.e = basis.dual, basis.eigenvalues
        d = operator.terms[0].d
        self.t = multiple_of_identity(d)
        self.outside = pt.cast(d.shape[0] - self.e.shape[0], self.t.type.dtype)

    def _split(self, rhs):
        """Coordinates in the range, and the rest, projected twice: the first leaves what rounding makes."""
        inside = self.dual.T @ rhs
        rest = rhs - self.dual @ inside
        return inside, rest - self.dual @ (self.dual.T @ rest)

    def solve(self, rhs, transposed=False):
        inside, rest = self._split(rhs)
        return rest / self.t + self.dual @ (inside / self.e[:, None])

    def inv_quad(self, rhs):
        inside, rest = self._split(rhs)
        return pt.sqr(rest).sum(axis=0) / self.t + (pt.sqr(inside) / self.e[:, None]).sum(axis=0)

    def logdet(self):
        sign = pt.prod(pt.sign(self.e)) * pt.switch(pt.eq(self.outside % 2, 0), 1.0, pt.sign(self.t))
        outside = pt.switch(pt.eq(self.outside, 0), 0.0, self.outside * pt.log(pt.abs(self.t)))
        return sign.astype(self.t.type.dtype), outside + pt.log(pt.abs(self.e)).sum()

    def inverse(self):
        n = self.dual.shape[0]
        inside = (self.dual * (pt.reciprocal(self.e) - pt.reciprocal(self.t))) @ self.dual.T
        return (
            pt.switch(pt.eye(n, dtype="bool"), pt.reciprocal(self.t), 0.0).astype(self.t.type.dtype) + inside
        )

    def inverse_diagonal(self):
        squares = pt.sqr(self.dual)
        return (1.0 - squares.sum(axis=1)) / self.t + squares @ pt.reciprocal(self.e)

    def is_positive_definite(self):
        return pt.all(self.e > 0) & (pt.eq(self.outside, 0) | (self.t > 0))


class KroneckerNoiseSolver(SpectrumSolver):
    """By the eigenproblems of the factors, solved at every call."""

    def __init__(self, operator: KroneckerNoise):
        self.operator = operator
        values, self.vectors = zip(*operator.spectra(), strict=True)
        self.e = eigenvalues(values, multiple_of_identity(operator.d))

    def _rotated(self, x, *, back=False):
        maps = [(lambda b, Q=Q: Q @ b) if back else (lambda b, Q=Q: Q.T @ b) for Q in self.vectors]
        return along_axes(self.operator.lengths, maps, x)

    def solve(self, rhs, transposed=False):
        return self._rotated(self._rotated(rhs) / self.e[:, None], back=True)

    def inv_quad(self, rhs):
        return (pt.sqr(self._rotated(rhs)) / self.e[:, None]).sum(axis=0)

    def logdet(self):
        return pt.prod(pt.sign(self.e)), pt.log(pt.abs(self.e)).sum()

    def inverse(self):
        n = self.operator.d.shape[0]
        return self.solve(pt.eye(n, dtype=self.e.type.dtype))

    def inverse_diagonal(self):
        maps = [lambda b, Q=Q: pt.sqr(Q) @ b for Q in self.vectors]
        return along_axes(self.operator.lengths, maps, (1 / self.e)[:, None])[:, 0]
