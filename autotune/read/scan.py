"""The single walk over a graph in which matrices and requests are read.

``meaning`` tells what an intermediate variable is worth (an inverse, a factor, the diagonal of a
factor ...). When a node completes an idiom, a replacement of its output is noted. In the end,
whatever of a root is still used by something that is not replaced becomes a request of its own.
"""

from __future__ import annotations

import math
from typing import Any

from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.linalg.constructors import BlockDiagonal
from pytensor.tensor.linalg.decomposition.cholesky import Cholesky
from pytensor.tensor.linalg.decomposition.eigen import Eigh
from pytensor.tensor.linalg.decomposition.lu import LU, LUFactor
from pytensor.tensor.linalg.decomposition.qr import QR
from pytensor.tensor.linalg.decomposition.svd import SVD
from pytensor.tensor.linalg.inverse import MatrixInverse
from pytensor.tensor.linalg.products import KroneckerProduct
from pytensor.tensor.linalg.solvers.general import Solve
from pytensor.tensor.linalg.summary import Det, SLogDet

from autotune.algebra.requests import RequestOp
from autotune.read.facts import Facts
from autotune.read.idioms import DTYPES, Idioms, Meaning, fits, same_batch
from autotune.read.naming import name_of
from autotune.read.readings import Reading
from autotune.read.views import strip_view

FACTORISATIONS = (LU, LUFactor, QR, SVD)
ROOTS = (Solve, MatrixInverse, Det, SLogDet, Cholesky, Eigh, RequestOp)
ON_A_BAND = {"tridiagonal": 1.0, "banded": math.inf}
"""How far off the last diagonal is that PyTensor's solve reads."""
FORMS = {"gen": "gen", "sym": "sym", "her": "sym", "pos": "pos"} | dict.fromkeys(ON_A_BAND, "gen")


def core_of(op):
    return op.core_op if isinstance(op, Blockwise) else op


def is_root(node) -> bool:
    """Exactly PyTensor's classes: subclasses are what the pass itself writes.

    A request Op that was vectorised (wrapped in a ``Blockwise``) computes by its own inner graph.
    """
    core = core_of(node.op)
    return type(core) in ROOTS and (type(core) is not RequestOp or core is node.op)


def has_roots(fgraph) -> bool:
    return any(is_root(node) for node in fgraph.apply_nodes)


def read(fgraph, compile_budget: float) -> list[Reading]:
    """Every matrix that is solved, inverted, factorised or whose determinant is taken in ``fgraph``.

    ``compile_budget``: seconds that finding out what one constant is made of may take.
    """
    scan = Scan(fgraph, compile_budget)
    for node in fgraph.toposort():
        scan.visit(node)
    return scan.finish()


class Scan(Idioms):
    def __init__(self, fgraph, compile_budget: float):
        super().__init__()
        self.fgraph = fgraph
        self.facts = self.contracted.recogniser.facts = Facts(fgraph)
        self.contracted.recogniser.compile_budget = compile_budget
        self.readings: dict[Any, Reading] = {}
        self.roots: dict[Any, tuple[str, str, Reading]] = {}

    # -- matrices -----------------------------------------------------------------------------

    def reading_of(self, matrix) -> tuple[Reading, bool]:
        """The reading of ``matrix`` and whether it appears transposed; made when first met."""
        core, transposed = strip_view(matrix)
        if core not in self.readings:
            self.readings[core] = Reading(
                matrix=core,
                operator=self.contracted.recogniser.operator(core),
                name=matrix.name or name_of(self.fgraph, core),
            )
            self.readings[core].symmetric = self.readings[core].operator.symmetric
        reading = self.readings[core]
        reading.operator = self.contracted.recogniser.marked(reading.operator, matrix)
        for var in (matrix, core):
            reading.positive_definite = reading.positive_definite or self.facts.positive_definite(var)
            reading.symmetric = reading.symmetric or self.facts.symmetric(var)
        return reading, transposed

    def requested(self, node) -> Reading:
        """The reading of a request Op's operator: one for the same parts, facts and strategy."""
        system, _ = node.op.system(node.inputs)
        spec = node.op.spec
        key = (spec.signature, system.operator.parts, spec.positive_definite, spec.strategy)
        if key not in self.readings:
            decision = spec.decision.at(spec.part) if spec.decision else None
            self.readings[key] = Reading(
                matrix=None,
                operator=system.operator,
                positive_definite=spec.positive_definite,
                symmetric=spec.symmetric,
                carried=spec.strategy,
                decision=decision,
                whole=spec.decision,
                place=spec.part,
                name=decision.problem.name if decision else None,
            )
        return self.readings[key]

    # -- the walk -----------------------------------------------------------------------------

    def visit(self, node) -> None:
        core = core_of(node.op)
        if is_root(node) and type(core) is not Eigh:  # read before (`autotune.read.eigenbases`)
            if type(core) is RequestOp or self._is_ours(node, core):
                getattr(self, f"_read_{type(core).__name__}")(node, core)
            return
        self.contracted.visit(node)
        known = [i for i in node.inputs if i in self.meaning]
        if known:
            handler = self.handlers.get(type(core))
            if handler is not None:
                handler(node, core)

    def _is_ours(self, node, core) -> bool:
        """Not what PyTensor does in fewer steps by a structure that no strategy knows."""
        matrix = node.inputs[0]
        rows, columns = matrix.type.shape[-2:]
        if matrix.type.dtype not in DTYPES or (rows is not None and columns is not None and rows != columns):
            return False
        if self.facts.structured(matrix) and not self.contracted.recogniser.is_banded(matrix):
            return False
        if isinstance(core, Det):
            return not (self._is_taken_apart(matrix) or self._is_factorised(matrix))
        if not isinstance(core, MatrixInverse):
            return not (isinstance(core, Solve) and self._is_inverse(matrix))
        clients = self.fgraph.clients[node.outputs[0]]
        solved_with = any(isinstance(core_of(client.op), Solve) and i == 0 for client, i in clients)
        return not (solved_with or self._is_taken_apart(matrix))

    def _is_taken_apart(self, matrix) -> bool:
        """Whether PyTensor does with the factors, or the blocks, what is asked, and no operator is read."""
        core = strip_view(matrix)[0]
        put_together = isinstance(core_of(core.owner_op), KroneckerProduct | BlockDiagonal)
        return put_together and self.contracted.recogniser.composite(core) is None

    def _is_factorised(self, matrix) -> bool:
        """Whether the graph has a factorisation that gives PyTensor the determinant."""
        views = {matrix, strip_view(matrix)[0]}
        clients = (client for view in views for client, _ in self.fgraph.clients[view])
        return any(isinstance(core_of(client.op), FACTORISATIONS) for client in clients)

    def _is_inverse(self, matrix) -> bool:
        return isinstance(core_of(strip_view(matrix)[0].owner_op), MatrixInverse)

    # -- roots --------------------------------------------------------------------------------

    def _read_Solve(self, node, op):
        A, b = node.inputs
        if op.assume_a not in FORMS or not fits(b, A):
            return
        if op.assume_a in ON_A_BAND and not self.contracted.recogniser.is_banded(A, ON_A_BAND[op.assume_a]):
            return
        reading, transposed = self.reading_of(A)
        if not same_batch(reading, node.outputs[0], op.b_ndim):
            return
        if self._solves_for_inverse(op, reading, b):
            self._inverted(node.outputs[0], reading, transposed)
            return
        form = FORMS[op.assume_a]
        one_triangle = form == "sym" or (form == "pos" and transposed)
        if one_triangle and not reading.symmetric:
            return  # it may be all there is, and not the one that a factor reads
        if form == "gen":
            form = self._solve_form(reading)
        asked = {"b_ndim": op.b_ndim, "transposed": transposed, "checked": op.assume_a == "pos"}
        self.note(reading, node.outputs[0], reading.solve(b, form, **asked))

    def _solves_for_inverse(self, op, reading, b) -> bool:
        unchecked = op.assume_a != "pos" and op.b_ndim == 2
        structured = "dense" not in reading.operator.structure
        return unchecked and structured and self.contracted.recogniser.is_identity(b)

    def _read_MatrixInverse(self, node, op):
        self._inverted(node.outputs[0], *self.reading_of(node.inputs[0]))

    def _inverted(self, out, reading, transposed):
        self.meaning[out] = Meaning("inverse", reading, transposed)
        self.roots[out] = ("inverse", "inverse", reading)
        self.contracted.add_inverse(out, reading, transposed=transposed)

    def _read_Det(self, node, op):
        reading, _ = self.reading_of(node.inputs[0])
        self.meaning[node.outputs[0]] = Meaning("determinant", reading)
        self.roots[node.outputs[0]] = ("determinant", "lu", reading)

    def _read_SLogDet(self, node, op):
        reading, _ = self.reading_of(node.inputs[0])
        for old, new in zip(node.outputs, reading.demand("logdet", "lu"), strict=True):
            self.note(reading, old, new)

    def _read_Cholesky(self, node, op):
        """``L`` of ``A = L L'``; an upper factor, and one of the other triangle, is left to PyTensor with all
        else that is asked of the matrix, which it shares."""
        reading, transposed = self.reading_of(node.inputs[0])
        symmetric = reading.symmetric or reading.positive_definite
        if not op.lower or (transposed and not symmetric):
            reading.left_alone = True
            return
        self.meaning[node.outputs[0]] = Meaning("factor", reading)
        self.roots[node.outputs[0]] = ("factor", "cholesky", reading)

    def _read_RequestOp(self, node, op):
        reading = self.requested(node)
        _, rhs = op.system(node.inputs)
        definite = op.spec.positive_definite or op.spec.checked
        form = "cholesky" if definite else "lu" if rhs is None else "gen"
        asked = {"transposed": op.spec.transposed, "checked": op.spec.checked}
        if op.spec.kind == "solve":  # scalar factors apart: solves with b and -b / 2 are one
            answers: Any = [reading.solve(rhs, form, **asked)]
        else:
            answers = reading.demand(op.spec.kind, form, rhs=rhs, **asked)
        for old, new in zip(node.outputs, answers, strict=True):
            self.note(reading, old, new)
        if op.spec.kind == "inverse":  # in a pullback, of which less may be asked
            self.contracted.add_inverse(node.outputs[0], reading, checked=op.spec.checked)

    # -- the end ------------------------------------------------------------------------------

    def finish(self) -> list[Reading]:
        """Demand the roots that are still needed as such, and tell which matrices are."""
        self.contracted.dense_products(lambda var: var in self._needed())
        self._leave_second_steps()
        self.readings = {key: reading for key, reading in self.readings.items() if not reading.left_alone}
        needed = self._needed()
        for root, (kind, form, reading) in self.roots.items():
            if root in needed and root not in reading.replacements and not reading.left_alone:
                self._demand_root(root, kind, form, reading)
        for reading in self.readings.values():
            reading.conclude()
        elsewhere = self._needed(own_matrix=False)
        for reading in self.readings.values():
            reading.shared = reading.matrix in elsewhere
        return [r for r in self.readings.values() if r.requests]

    def _leave_second_steps(self) -> None:
        """``L^-1 b`` that is needed itself is not computed again: its squares and ``L'^-1`` of it stay."""
        needed = self._needed()
        left = [(out, reading) for out, whitened, reading in self.of_whitened if whitened in needed]
        for out, reading in left:
            reading.replacements.pop(out, None)
        needed = self._needed() if left else needed
        for reading in {reading: None for _, reading in left}:
            reading.requests = {
                key: asked
                for key, asked in reading.requests.items()
                if asked.request.form != "cholesky" or any(answer in needed for answer in asked.answers)
            }

    def _demand_root(self, root, kind, form, reading):
        [answer] = reading.demand(kind, form)
        transposed = kind == "inverse" and self.meaning[root].transposed and not reading.symmetric
        self.note(reading, root, answer.mT if transposed else answer)

    def _needed(self, *, own_matrix: bool = True) -> set[Any]:
        """What the outputs are computed from once all replacements are made, those variables included that
        are replaced themselves.

        ``own_matrix``: a dense matrix is needed by its own requests too, not only what it is computed from.
        """
        new = {
            old: [value] for reading in self.readings.values() for old, value in reading.replacements.items()
        }
        for reading in self.readings.values():
            parts = reading.operator.parts if own_matrix else reading.made_from
            new |= {
                out: [*parts, *asked.reads] for asked in reading.requests.values() for out in asked.answers
            }
        needed: set[Any] = set()
        queue = list(self.fgraph.outputs)
        while queue:
            var = queue.pop()
            if var not in needed:
                needed.add(var)
                queue += new.get(var, var.owner.inputs if var.owner else ())
        return needed
