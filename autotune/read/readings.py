"""One matrix with the requests read from the graph, and the variables that answers will replace."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.tensor.type import TensorType

from autotune.algebra.operator import Operator
from autotune.problem import Request
from autotune.read.columns import Spellings, as_columns, one_column, split_scale


@dataclass(eq=False)
class GraphRequest:
    """A request, its right-hand side ``rhs`` ``(..., n, m)``, and ``answers``: placeholders for results."""

    request: Request
    rhs: Any
    answers: tuple[Any, ...]

    @property
    def reads(self) -> tuple[Any, ...]:
        """What is read beside the matrix."""
        return () if self.rhs is None else (self.rhs,)


@dataclass(eq=False)
class Reading:
    """A matrix, its operator, facts and requests; ``replacements`` of variables by expressions in answers.

    ``needs``: other readings whose answers a replacement uses too.
    ``carried`` and ``decision``: the strategy, and how it was chosen, that request Ops brought
    from before autodiff, ``whole`` that of the matrix of which this one is a part, at its ``place``; the
    strategy is None when it is still to be chosen. ``left_alone``: a factor is taken of it that no request
    gives, and that PyTensor shares with all else that is asked.
    """

    matrix: Any
    operator: Operator
    positive_definite: bool = False
    symmetric: bool = False
    carried: str | None = None
    decision: Any = None
    whole: Any = None
    place: tuple[int, ...] = ()
    name: str | None = None
    shared: bool = False
    left_alone: bool = False
    requests: dict[Any, GraphRequest] = field(default_factory=dict)
    replacements: dict[Variable, Any] = field(default_factory=dict)
    needs: dict[Variable, tuple[Any, ...]] = field(default_factory=dict)
    spellings: Spellings = field(default_factory=Spellings)

    @property
    def deferred(self) -> bool:
        """Whether it was read from request Ops."""
        return self.matrix is None

    @property
    def square_matrix(self) -> Any | None:
        """What the requests need square: the matrix, or of request Ops the one that they hold, if it is
        whole."""
        whole = self.matrix is None and self.operator.structure == ("dense",)
        return self.operator.parts[0] if whole else self.matrix

    @property
    def made_from(self) -> tuple[Any, ...]:
        """What the parts of the operator are; of a matrix that is dense, what that is computed from."""
        if self.matrix is None or self.operator.structure != ("dense",):
            return self.operator.parts
        return () if self.matrix.owner is None else tuple(self.matrix.owner.inputs)

    @property
    def batched(self) -> bool:
        return bool(self.operator.batch_axes)

    @property
    def dtype(self) -> str:
        return self.operator.dtype

    def demand(
        self, kind: str, form: str, *, rhs=None, transposed=False, checked: bool | None = None
    ) -> tuple[Any, ...]:
        """Placeholders for the answers to a request; the same request asked twice is one.

        ``form`` of the first asking stands. ``checked`` by default for the idioms of a Cholesky factor.
        """
        rhs_key = None if rhs is None else self.spellings.of(rhs)
        checked = self._is_checked(form, checked)
        key = (kind, rhs_key, transposed, checked)
        if key not in self.requests:
            columns = None if rhs is None else rhs.type.shape[-1]
            request = Request(kind, columns if rhs is not None else 1, transposed, form, checked)
            self.requests[key] = GraphRequest(request, rhs, self._placeholders(kind, rhs))
        return self.requests[key].answers

    def _is_checked(self, form, asked: bool | None) -> bool:
        """Nothing needs a check once it is known that the matrix is positive definite."""
        return not self.positive_definite and (form == "cholesky" if asked is None else asked)

    def conclude(self) -> None:
        """What is known of the matrix in the end holds for all requests."""
        if self.positive_definite:
            for asked in self.requests.values():
                asked.request = replace(asked.request, checked=False)

    @property
    def answered_by_factor(self) -> bool:
        """Whether a Cholesky factor answers all requests: with NaN where there is none, if they are
        checked."""
        return self.positive_definite or all(asked.request.checked for asked in self.requests.values())

    @property
    def one_triangle(self) -> bool:
        """Whether a factor is asked for of what may not be symmetric: its lower triangle is all that
        counts."""
        proven = self.symmetric or self.positive_definite
        return not proven and any(asked.request.checked for asked in self.requests.values())

    def _placeholders(self, kind, rhs):
        n, batch = self.operator.static.n, self.operator.batch
        if kind == "logdet_pullback":
            parts = self.operator.unmarked.parts
            return tuple(p.type.clone(shape=(*batch, *p.type.shape[len(batch) :]))() for p in parts)
        shapes = {
            "solve": lambda: (*_broadcast(batch, rhs), *rhs.type.shape[-2:]),
            "inv_quad": lambda: (*_broadcast(batch, rhs), rhs.type.shape[-1]),
            "inverse": lambda: (*batch, n, n),
            "factor": lambda: (*batch, n, n),
            "inverse_diagonal": lambda: (*batch, n),
        }
        shape = shapes.get(kind, lambda: batch)()
        dtype = "bool" if kind == "is_positive_definite" else self.dtype
        return tuple(TensorType(dtype, shape)() for _ in range(2 if kind == "logdet" else 1))

    def solve(self, b, form: str, *, b_ndim: int = 2, transposed: bool = False, checked: bool | None = None):
        """``A^-1 b`` (or ``A^-T b``) in the shape of ``b``, its scalar factors taken out of the solve."""
        scale, b = split_scale(b)
        rhs, restore = as_columns(b, b_ndim, self.batched)
        rhs = _cast(one_column(rhs), self.dtype)
        checked = self._is_checked(form, checked)
        transposed = transposed and not (self.symmetric or checked)
        [answer] = self.demand("solve", form, rhs=rhs, transposed=transposed, checked=checked)
        x = restore(answer)
        return x if scale is None else x * scale

    def inv_quad(self, b, form: str, *, b_ndim: int):
        """``b' A^-1 b`` over the vector axis of ``b``."""
        rhs, restore = as_columns(b, b_ndim, self.batched)
        [answer] = self.demand("inv_quad", form, rhs=_cast(one_column(rhs), self.dtype))
        return (
            restore(answer[..., None, :])[..., 0] if b_ndim == 1 else restore(answer[..., None, :])[..., 0, :]
        )


def _broadcast(batch, rhs) -> tuple[int | None, ...]:
    """The lengths of the batch axes of matrices and of right-hand sides: one of the two may be repeated."""
    own = rhs.type.shape[:-2]
    if len(own) != len(batch):
        return batch
    return tuple(b if a == 1 or (a is None and b != 1) else a for a, b in zip(batch, own, strict=True))


def _cast(rhs, dtype):
    return rhs if rhs.type.dtype == dtype else pt.cast(rhs, dtype)
