"""Matrices ``diag(d) + U diag(c) U'`` (symmetric) or ``diag(d) + U V'`` (general), never formed unless they
must be.

d is (n,), U and V are (n, k), c is (k,). A factor is the tuple of outputs of `LowRankFactor`; its length is
``len(FACTOR_FIELDS)``. Cost: O(n k^2) to factor and O(n k m) to solve, with a lazy dense branch at run time
for matrices on which the formula of Woodbury (1950) would lose accuracy.
"""

from pytensor.graph.basic import Apply
from pytensor.tensor.basic import as_tensor_variable, cast
from pytensor.tensor.shape import Shape_i
from pytensor.tensor.type import tensor

from autotune.ops._base import LOW_RANK, Late, LinalgOp, as_real, ensure_numba_dispatch, merge_lengths
from cost_models import KernelCall, call

lowrank = Late("lowrank")

# What the applications read. `LowRankFactor` returns these, and then sign and logabsdet.
FACTOR_FIELDS = ("mode", "w", "F", "pivots", "S", "FS")


class _LowRankOp(LinalgOp):
    """Inputs (d, U, c) if ``symmetric``, else (d, U, V)."""

    family = LOW_RANK

    def matrix_inputs(self, d, U, last):
        """The three inputs as variables of one dtype, and the static n."""
        ensure_numba_dispatch(self.family)
        d, U, last = as_real(self, (1, 2, 1 if self.symmetric else 2), d, U, last)
        n = merge_lengths(
            self, d.type.shape[0], U.type.shape[0], *([] if self.symmetric else last.type.shape[:1])
        )
        merge_lengths(self, U.type.shape[1], last.type.shape[-1])
        return [d, U, last], n


def factor_inputs(op, factor, dtype):
    """The factor's variables with its floating-point parts in ``dtype``; the integers stay as they are."""
    variables = [as_tensor_variable(value) for value in factor]
    expected = (0, 1, 2, 1, 1, 2)
    if tuple(variable.type.ndim for variable in variables) != expected:
        raise TypeError(f"{op} got something else than {FACTOR_FIELDS} of a LowRankFactor.")
    return [
        v if v.type.numpy_dtype.kind == "i" or v.type.dtype == dtype else cast(v, dtype) for v in variables
    ]


class LowRankFactor(_LowRankOp):
    """``(mode, w, F, pivots, S, FS, sign, logabsdet)``: factors and determinant of a low rank plus diagonal.

    Which algorithm made it is decided at run time by the values, and recorded in ``mode`` (see
    `core_factor`): Cholesky of ``I + Ue' D^-1 Ue`` with up to k ill-scaled rows eliminated last; LU of ``I +
    V' D^-1 U``; LU of the dense matrix. ``positive_definite``: the matrix, which is symmetric, either has a
    Cholesky factor or everything is NaN, as with PyTensor's ``Cholesky``. Without it a singular matrix has
    sign 0 and logabsdet -inf. Sources: Woodbury (1950); Haynsworth (1968) for the inertia; Yip (1986) for the
    stability.
    """

    __props__ = ("symmetric", "positive_definite")

    def __init__(self, *, symmetric: bool, positive_definite: bool = False):
        self.symmetric = symmetric
        self.positive_definite = positive_definite

    def make_node(self, d, U, last):
        inputs, n = self.matrix_inputs(d, U, last)
        dtype = inputs[0].type.dtype
        outputs = [
            tensor("mode", shape=(), dtype="int8"),
            tensor("w", shape=(n,), dtype=dtype),
            tensor("F", shape=(None, None), dtype=dtype),
            tensor("pivots", shape=(None,), dtype="int32"),
            tensor("S", shape=(None,), dtype="int64"),
            tensor("FS", shape=(None, None), dtype=dtype),
            tensor("sign", shape=(), dtype=dtype),
            tensor("logabsdet", shape=(), dtype=dtype),
        ]
        return Apply(self, inputs, outputs)

    def infer_shape(self, node, shapes):
        # Only the values tell which algorithm runs, and so how large its factors are.
        known = [(), shapes[0]]
        return known + [tuple(Shape_i(i)(out) for i in range(out.type.ndim)) for out in node.outputs[2:]]

    def perform(self, node, inputs, outputs):
        for storage, value in zip(outputs, lowrank.factorise(self.positive_definite, *inputs), strict=True):
            storage[0] = value

    @staticmethod
    def kernels(n, k, *, symmetric: bool) -> list[KernelCall]:
        return [*_python(symmetric), call("low_rank_factor", n=n, k=k, count=1 if symmetric else 2)]


class LowRankSolve(_LowRankOp):
    """``K^-1 B`` (n, m), or ``K'^-1 B`` if ``transposed``, from a factor; O(n k m).

    Inputs: (d, U, c) or (d, U, V), the factor's `FACTOR_FIELDS`, B. NaN from a factor that failed. Where B
    lies near the range of U, the solution is refined until it is as accurate as a dense one (Higham 2002,
    ch. 12).
    """

    __props__ = ("symmetric", "transposed")

    def __init__(self, *, symmetric: bool, transposed: bool = False):
        self.symmetric = symmetric
        # The transpose of a symmetric matrix is itself: one prop value, one compiled function.
        self.transposed = transposed and not symmetric

    def make_node(self, d, U, last, *factor_and_rhs):
        inputs, n = self.matrix_inputs(d, U, last)
        if len(factor_and_rhs) != len(FACTOR_FIELDS) + 1:
            raise TypeError(
                f"{self} got {len(factor_and_rhs)} inputs after K. It takes {FACTOR_FIELDS} and B."
            )
        (B,) = as_real(self, (2,), factor_and_rhs[-1])
        inputs[0], inputs[1], inputs[2], B = as_real(self, (1, 2, inputs[2].type.ndim, 2), *inputs, B)
        n = merge_lengths(self, n, B.type.shape[0])
        out = tensor(shape=(n, B.type.shape[1]), dtype=B.type.dtype)
        return Apply(self, [*inputs, *factor_inputs(self, factor_and_rhs[:-1], B.type.dtype), B], [out])

    def infer_shape(self, node, shapes):
        return [shapes[-1]]

    def perform(self, node, inputs, outputs):
        outputs[0][0] = lowrank.solve(self.transposed, *inputs)

    @staticmethod
    def kernels(n, k, m, *, symmetric: bool) -> list[KernelCall]:
        return [*_python(symmetric), call("low_rank_solve", n=n, k=k, m=m)]


class LowRankSolveColumns(_LowRankOp):
    """``K^-1 U`` (n, k) of a symmetric K from (d, U, c) and the factor's `FACTOR_FIELDS`; O(n k^2).

    Its own Op, because a solve with a right-hand side in the range of U would cancel (see `core_solve`).
    """

    __props__ = ()
    symmetric = True

    def make_node(self, d, U, c, *factor):
        inputs, n = self.matrix_inputs(d, U, c)
        if len(factor) != len(FACTOR_FIELDS):
            raise TypeError(f"{self} got {len(factor)} inputs after the matrix. It takes {FACTOR_FIELDS}.")
        dtype = inputs[0].type.dtype
        out = tensor(shape=(n, inputs[1].type.shape[1]), dtype=dtype)
        return Apply(self, [*inputs, *factor_inputs(self, factor, dtype)], [out])

    def infer_shape(self, node, shapes):
        return [shapes[1]]

    def perform(self, node, inputs, outputs):
        outputs[0][0] = lowrank.solve_columns(*inputs)


class LowRankSolveInRange(_LowRankOp):
    """``K^-1 U Z`` (n, m) of a symmetric K from (d, U, c), the factor's `FACTOR_FIELDS` and Z (k, m);
    O(n k m).

    A right-hand side that is written as a product with U is in its range, where `LowRankSolve` would cancel.
    """

    __props__ = ()
    symmetric = True

    def make_node(self, d, U, c, *factor_and_coefficients):
        inputs, n = self.matrix_inputs(d, U, c)
        *factor, Z = factor_and_coefficients
        if len(factor) != len(FACTOR_FIELDS):
            raise TypeError(
                f"{self} got {len(factor) + 1} inputs after the matrix. It takes {FACTOR_FIELDS} and Z."
            )
        *inputs, Z = as_real(self, (1, 2, 1, 2), *inputs, Z)
        merge_lengths(self, inputs[1].type.shape[1], Z.type.shape[0])
        out = tensor(shape=(n, Z.type.shape[1]), dtype=Z.type.dtype)
        return Apply(self, [*inputs, *factor_inputs(self, factor, Z.type.dtype), Z], [out])

    def infer_shape(self, node, shapes):
        return [(shapes[0][0], shapes[-1][1])]

    def perform(self, node, inputs, outputs):
        outputs[0][0] = lowrank.solve_in_range(*inputs)


class LowRankInverseDiagonal(_LowRankOp):
    """``diag(K^-1)`` (n,) in O(n k^2), from (d, U, c) or (d, U, V) and the factor's `FACTOR_FIELDS`."""

    __props__ = ("symmetric",)

    def __init__(self, *, symmetric: bool):
        self.symmetric = symmetric

    def make_node(self, d, U, last, *factor):
        inputs, n = self.matrix_inputs(d, U, last)
        if len(factor) != len(FACTOR_FIELDS):
            raise TypeError(f"{self} got {len(factor)} inputs after the matrix. It takes {FACTOR_FIELDS}.")
        dtype = inputs[0].type.dtype
        return Apply(self, [*inputs, *factor_inputs(self, factor, dtype)], [tensor(shape=(n,), dtype=dtype)])

    def infer_shape(self, node, shapes):
        return [shapes[0]]

    def perform(self, node, inputs, outputs):
        outputs[0][0] = lowrank.inverse_diagonal(*inputs)

    @staticmethod
    def kernels(n, k, *, symmetric: bool) -> list[KernelCall]:
        return [*_python(symmetric), call("low_rank_diagonal", n=n, k=k)]


class SymmetricRoot(LinalgOp):
    """``(B, c, B^-1)`` with ``M = B diag(c) B'`` of a symmetric M (k, k).

    B is its Cholesky factor, and c are ones; of a matrix that has none, since it is singular or indefinite,
    they are its eigenvectors and eigenvalues, 0 for rounding.
    """

    __props__ = ()
    family = LOW_RANK

    def make_node(self, M):
        ensure_numba_dispatch(self.family)
        (M,) = as_real(self, (2,), M)
        k = merge_lengths(self, *M.type.shape)
        B, inverse = (tensor(name, shape=(k, k), dtype=M.type.dtype) for name in ("B", "inverse"))
        return Apply(self, [M], [B, tensor("c", shape=(k,), dtype=M.type.dtype), inverse])

    def infer_shape(self, node, shapes):
        return [shapes[0], shapes[0][:1], shapes[0]]

    def perform(self, node, inputs, outputs):
        for storage, value in zip(outputs, lowrank.symmetric_root(*inputs), strict=True):
            storage[0] = value

    @staticmethod
    def kernels(k) -> list[KernelCall]:
        return [call("potrf", n=k)]


IN_PYTHON = 50
"""Calls of a compiled function that take the time of an Op which runs in Python."""


def _python(symmetric: bool) -> list[KernelCall]:
    """What two different factors cost on top: they have no compiled code."""
    return [] if symmetric else [call("call", count=IN_PYTHON)]
