"""Changes of a PyMC model that may win: what is found, what to write instead, and the graph that this gives.

Whether one wins is not judged here: its graph is compiled and priced (`autotune.report.model`). Each function
of ``FINDERS`` looks for one thing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.assumptions import assume
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.traversal import ancestors, toposort
from pytensor.tensor.linalg.products import KroneckerProduct

from autotune.plan.model import Hint
from autotune.plan.session import switched_off
from autotune.plan.table import called
from autotune.policy import Policy
from autotune.rewrite.before_autodiff import simplify
from autotune.rewrite.passes import problems_on

Proposal = tuple[Hint, Any]
logger = logging.getLogger("autotune")


class Looked:
    """A model and the graph of its log-probability, ``cost``, as it is read before autodiff."""

    def __init__(self, model: Any, cost: Any):
        self.model = model
        self.cost = cost
        self.graph = FunctionGraph(outputs=[cost], clone=True, copy_inputs=False)
        simplify(self.graph)

    @cached_property
    def problems(self) -> list[tuple[Any, Any]]:
        """Each matrix that is read, with its problem."""
        return problems_on(self.graph, Policy(), differentiated=True, linker="numba")

    @cached_property
    def data(self) -> list[Any]:
        """``pm.Data`` that matrices are made of."""
        matrices = [reading.matrix for reading, _ in self.problems if reading.matrix is not None]
        shared = [var for var in dict.fromkeys(ancestors(matrices)) if isinstance(var, SharedVariable)]
        return [var for var in shared if var.name in self.model.named_vars and var.type.ndim]

    def is_of_potentials(self, var: Any) -> bool:
        """Whether all matrices that are made of ``var`` are of potentials alone."""
        made = (problem for reading, problem in self.problems if var in ancestors([reading.matrix]))
        return not any(problem.rv for problem in made)

    def with_given(self, pairs: Mapping[Any, Any]) -> Any:
        """The log-probability with other arrays in the place of some."""
        return _remade(self.cost, pairs)

    def with_read(self, pairs: Mapping[Any, Any]) -> Any:
        """The log-probability with variables replaced as they are read."""
        return _remade(self.graph.outputs[0], pairs)

    def at_initial_point(self, variable: Any) -> np.ndarray:
        """Its value there."""
        point = self.model.initial_point(0)
        values = {var: point[var.name] for var in self.model.value_vars}
        inputs = [var for var in values if var in set(ancestors([variable]))]
        with switched_off():
            fn = pytensor.function(inputs, variable, mode=pytensor.compile.mode.Mode("py", "fast_compile"))
        return np.asarray(fn(*(values[var] for var in inputs)))


def _remade(out: Any, pairs: Mapping[Any, Any]) -> Any:
    """``out`` made of other variables, which may be of other types."""
    new = dict(pairs)
    for node in toposort([out], blockers=pairs):
        if any(i in new for i in node.inputs):
            inputs = [new.get(i, i) for i in node.inputs]
            if isinstance(node.op, KroneckerProduct):  # whose own graph is for the types it was made with
                made = pt.linalg.kron(*inputs).owner
            else:
                made = node.clone_with_new_inputs(inputs, strict=False)
            new.update(zip(node.outputs, made.outputs, strict=True))
    return new.get(out, out)


def proposals(looked: Looked) -> Iterator[Proposal]:
    """What might win, with the log-probability as it would be."""
    for find in FINDERS if looked.problems else ():
        try:
            yield from list(find(looked))
        except Exception:  # a model may hold anything: what cannot be changed for a trial gets no hint
            logger.debug("autotune found no hint by %s", find.__name__, exc_info=True)


# -- inputs and matrices ----------------------------------------------------------------------------------


def unknown_shapes(looked: Looked) -> Iterator[Proposal]:
    """``pm.Data`` whose shape may change: what needs a shape to be proven is not read."""
    for var in looked.data:
        if None in var.type.shape:
            value = var.get_value(borrow=True)
            fixed = pytensor.shared(value, name=var.name, shape=value.shape)
            line = f'pm.Data("{var.name}", ..., shape={value.shape})'
            found = f"nothing fixes the shape of {var.name}"
            yield Hint(var.name, found, line), looked.with_given({var: fixed})


def mixed_precision(looked: Looked) -> Iterator[Proposal]:
    """Single precision among the parts of a matrix in double precision."""
    for var in dict.fromkeys(ancestors([looked.cost])):
        if isinstance(var, Constant) and var.type.ndim and var.dtype == "float32":
            double = pt.constant(var.data.astype("float64"), name=var.name)
            found = f"{_what(var)} is of float32, and of float64 what it meets"
            hint = Hint(_what(var), found, f'{var.name or "X"}.astype("float64")')
            yield hint, looked.with_given({var: double})


def missing_tags(looked: Looked) -> Iterator[Proposal]:
    """A matrix of potentials that is positive definite, as far as is seen, which nothing proves.

    Of the parameters of random variables PyMC forgets what is said.
    """
    for var in looked.data:
        value = var.get_value(borrow=True)
        if var.ndim == 2 and looked.is_of_potentials(var) and _is_positive_definite(value):
            found = f"nothing proves {var.name} positive definite, which it is"
            fixed = pytensor.shared(value, name=var.name, shape=value.shape)
            given = f'pm.Data("{var.name}", ..., shape={value.shape})'
            line = f"{var.name} = pytensor.assumptions.assume({given}, positive_definite=True)"
            tagged = assume(fixed, positive_definite=True)
            yield Hint(var.name, found, line), looked.with_given({var: tagged})
    for reading, problem in looked.problems:
        matrix = reading.matrix
        if matrix is None or matrix.ndim != 2 or problem.rv or problem.positive_definite:
            continue
        if _is_positive_definite(looked.at_initial_point(matrix)):
            name = matrix.name or "K"
            found = f"nothing proves {_where(problem)} positive definite, which it is at the initial point"
            line = f"{name} = pytensor.assumptions.assume({name}, positive_definite=True)  # if it always is"
            tagged = assume(matrix, positive_definite=True)
            yield Hint(_where(problem), found, line), looked.with_read({matrix: tagged})


FINDERS: tuple[Callable[[Looked], Iterator[Proposal]], ...] = (
    unknown_shapes,
    mixed_precision,
    missing_tags,
)


# -- words ------------------------------------------------------------------------------------------------


def _is_symmetric(value: np.ndarray) -> bool:
    square = value.shape[0] == value.shape[1] and np.isfinite(value).all()
    return bool(square and np.allclose(value, value.T, rtol=1e-12))


def _is_positive_definite(value: np.ndarray) -> bool:
    if not _is_symmetric(value):
        return False
    try:
        np.linalg.cholesky(value)
    except np.linalg.LinAlgError:
        return False
    return True


def _where(problem: Any) -> str:
    """A matrix by its names and the line of code that made it."""
    return (called(problem) or "a matrix") + (f" ({problem.source})" if problem.source else "")


def _what(var: Any) -> str:
    """A variable by its name or that of the nearest that it is made of; an array without one by its shape."""
    named = next((one.name for one in ancestors([var]) if one.name), None)
    return named or f"an array of shape {var.type.shape}"
