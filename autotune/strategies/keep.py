"""PyTensor's own lowering, priced like the others and always a candidate."""

from __future__ import annotations

from autotune.algebra.plain import PlainSolver
from autotune.problem import REQUEST_KINDS, Problem
from autotune.strategies.base import No, Strategy, Work, forming, outer_products, peak_of, times
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
        calls = [*_factorisations(problem), *forming(problem, plain=True)]
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
