"""The libraries of ``peers.py``: what each makes of a case, in the spelling that its users would choose.

A loader imports its library and returns ``make(name, matrix, case, gradient)``: a function of the values
that returns the value, and the derivatives if ``gradient``; None where the library has no way.
Each keeps its own defaults, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from peer_matrices import Matrix, unpacked
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri
from structures import Case

Function = Callable[..., Any]


def dense(matrix: Matrix, case: Case, gradient: bool, *values: np.ndarray) -> list[Any]:
    """SciPy on the dense matrix: its Cholesky factor, and for the derivatives its inverse from it (potri)."""
    *parameters, y = values
    factor, lower = cho_factor(matrix.dense(np, case.constants, *parameters), lower=True, check_finite=False)
    alpha = cho_solve((factor, lower), y, check_finite=False)
    value = -np.log(np.diag(factor)).sum() - 0.5 * y @ alpha
    if not gradient:
        return [value]
    inverse = np.tril(dpotri(factor, lower=True)[0])
    inverse += np.tril(inverse, -1).T
    K_bar = -0.5 * (inverse - np.outer(alpha, alpha))
    return [value, *matrix.pull(K_bar, case.constants, *parameters), -alpha]


# -- on JAX ---------------------------------------------------------------------------------------


def compiled_by_jax(log_density: Function, case: Case, gradient: bool) -> Function:
    """``log_density(constants, *inputs)``, and its derivatives by the inputs, compiled."""
    import jax

    jax.config.update("jax_enable_x64", True)
    constants = tuple(jax.numpy.asarray(c) for c in case.constants)
    inputs = tuple(range(1, len(case.inputs) + 1))
    fn = jax.jit(jax.value_and_grad(log_density, argnums=inputs) if gradient else log_density)

    def call(*values):
        found = jax.block_until_ready(fn(constants, *values))
        return [found[0], *found[1]] if gradient else [found]

    return call


def load_jax() -> Function:
    """``jax.scipy.linalg`` on the dense matrix."""
    import jax.numpy as jnp
    from jax.scipy.linalg import cho_solve

    def make(name: str, matrix: Matrix, case: Case, gradient: bool) -> Function:
        def log_density(constants, *inputs):
            *parameters, y = inputs
            L = jnp.linalg.cholesky(matrix.dense(jnp, constants, *parameters))
            return -jnp.log(jnp.diag(L)).sum() - 0.5 * y @ cho_solve((L, True), y)

        return compiled_by_jax(log_density, case, gradient)

    return make


def load_cola() -> Function:
    """``cola.solve`` and ``cola.logdet`` of the operator, declared positive definite.

    Sums are built as such: ``+`` of some operators is refused as ambiguous.
    """
    import cola
    import jax.numpy as jnp
    from cola.ops import BlockDiag, Dense, Diagonal, I_like, Kronecker, Sum, Triangular

    def low_rank(X):
        return Dense(X) @ Dense(X.T)

    def packed(constants, v):
        L = Triangular(unpacked(jnp, v), lower=True)
        return L @ L.T

    def exchangeable(constants, v, r):
        one = low_rank(constants[0][:, None])
        return Sum(v * (1 - r) * I_like(one), v * r * one)

    def kronecker_noise(constants, t, s):
        K = Kronecker(Dense(jnp.exp(-constants[0] / t)), Dense(constants[1]))
        return Sum(K, s * I_like(K))

    def animal(constants, a, b):
        A = Dense(constants[0])
        return Sum(a * A, b * I_like(A))

    operators = {
        "packed L L'": packed,
        "a A + b I": animal,
        "exchangeable": exchangeable,
        "Kronecker + noise": kronecker_noise,
        "kron(A, B) + X X'": lambda constants, A, B, X: Sum(Kronecker(Dense(A), Dense(B)), low_rank(X)),
        "blocks + X X'": lambda constants, *p: Sum(BlockDiag(*map(Dense, p[:-1])), low_rank(p[-1])),
        "U U' + diag(d)": lambda constants, U, d: Sum(low_rank(U), Diagonal(d)),
    }

    def make(name: str, matrix: Matrix, case: Case, gradient: bool) -> Function:
        def log_density(constants, *inputs):
            *parameters, y = inputs
            K = operators[name](constants, *parameters)
            K = K if name == "packed L L'" else cola.PSD(K)  # a declaration would hide the product
            return -0.5 * (cola.logdet(K) + y @ cola.solve(K, y))

        return compiled_by_jax(log_density, case, gradient)

    return make


def load_gpjax() -> Function:
    """``GaussianDistribution.log_prob``: none of its operators is a sum, so that all matrices are dense."""
    import jax.numpy as jnp
    from gpjax.distributions import GaussianDistribution
    from gpjax.linalg import Dense

    def make(name: str, matrix: Matrix, case: Case, gradient: bool) -> Function:
        def log_density(constants, *inputs):
            *parameters, y = inputs
            K = Dense(matrix.dense(jnp, constants, *parameters))
            constant = 0.5 * len(y) * jnp.log(2 * jnp.pi)
            return GaussianDistribution(jnp.zeros_like(y), K).log_prob(y) + constant

        return compiled_by_jax(log_density, case, gradient)

    return make


# -- on PyTorch, on NumPy -------------------------------------------------------------------------


def load_linear_operator() -> Function:
    """``inv_quad_logdet`` of the operator."""
    import torch
    from linear_operator import operators as lo

    def packed(constants, v):
        n = round((np.sqrt(8 * len(v) + 1) - 1) / 2)
        L = torch.zeros((n, n), dtype=v.dtype)
        L = L.index_put(tuple(map(torch.from_numpy, np.tril_indices(n))), v)
        return lo.CholLinearOperator(lo.TriangularLinearOperator(L))

    def noise(s, n):
        return lo.ConstantDiagLinearOperator(s.reshape(1), n)

    def exchangeable(constants, v, r):
        one = constants[0][:, None]
        return lo.LowRankRootLinearOperator(torch.sqrt(v * r) * one) + noise(v * (1 - r), len(one))

    def kronecker(A, B):
        return lo.KroneckerProductLinearOperator(lo.to_linear_operator(A), lo.to_linear_operator(B))

    def kronecker_noise(constants, t, s):
        K = kronecker(torch.exp(-constants[0] / t), constants[1])
        return K + noise(s, K.shape[0])

    def plus_low_rank(K, X):
        # + LowRankRootLinearOperator(X) on blocks gives a wrong log-determinant in 0.6.1
        return K + lo.to_linear_operator(X @ X.T)

    operators = {
        "packed L L'": packed,
        "a A + b I": lambda c, a, b: lo.to_linear_operator(c[0]) * a + noise(b, len(c[0])),
        "exchangeable": exchangeable,
        "Kronecker + noise": kronecker_noise,
        "kron(A, B) + X X'": lambda c, A, B, X: plus_low_rank(kronecker(A, B), X),
        "blocks + X X'": lambda c, *p: plus_low_rank(
            lo.BlockDiagLinearOperator(lo.to_linear_operator(torch.stack(p[:-1]))), p[-1]
        ),
        "U U' + diag(d)": lambda c, U, d: lo.LowRankRootLinearOperator(U) + lo.DiagLinearOperator(d),
    }

    def make(name: str, matrix: Matrix, case: Case, gradient: bool) -> Function:
        constants = [torch.from_numpy(c) for c in case.constants]

        def call(*values):
            with torch.set_grad_enabled(gradient):
                *parameters, y = (torch.from_numpy(x).requires_grad_(gradient) for x in values)
                K = operators[name](constants, *parameters)
                quad, logdet = K.inv_quad_logdet(y[:, None], logdet=True)
                value = -0.5 * (logdet + quad)
            if not gradient:
                return [value.numpy()]
            derivatives = torch.autograd.grad(value, [*parameters, y])
            return [value.detach().numpy(), *(g.numpy() for g in derivatives)]

        return call

    return make


def load_glimix_core() -> Function:
    """``LMM.lml`` without fixed effects: for ``a A + b I`` alone, y given once, no derivatives."""
    from glimix_core.lmm import LMM

    def make(name: str, matrix: Matrix, case: Case, gradient: bool) -> Function | None:
        if name != "a A + b I" or gradient:
            return None
        y = list(case.inputs.values())[-1]
        w, Q = np.linalg.eigh(case.constants[0])
        model = LMM(y, np.ones((len(y), 1)), ((Q,), w))
        model.beta = [0.0]
        constant = 0.5 * len(y) * np.log(2 * np.pi)

        def call(a, b, _):
            model.delta = 0.5  # a change, as between two steps of a fit: what depends on delta is cached
            model.delta, model.scale = b / (a + b), a + b
            return [model.lml() + constant]

        return call

    return make


LIBRARIES = {
    "JAX": load_jax,
    "CoLA": load_cola,
    "GPJax": load_gpjax,
    "linear_operator": load_linear_operator,
    "glimix-core": load_glimix_core,
}
