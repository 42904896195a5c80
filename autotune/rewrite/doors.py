"""The two doors through which the pass enters a compile, and ``tune`` for use before ``pt.grad``.

``mode`` needs no global state. ``enable`` registers the same pass in PyTensor's databases, where
PyMC's compile finds it, also before it differentiates, and in PyMC's own, by which it makes log-densities:
`_registered` tells all of them.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pytensor.compile.mode import Mode, get_default_mode, get_mode, optdb
from pytensor.graph.basic import Variable

from autotune.evidence.examples import ExampleInputs, Examples, examples_from
from autotune.plan.session import Session, enabled_examples, enabled_policies
from autotune.policy.in_force import policy_in_force
from autotune.rewrite.before_autodiff import DecideBeforeAutodiff, decided, random_variables
from autotune.rewrite.passes import (
    DECIDE_POSITION,
    PROTECT_POSITION,
    STEPS_POSITION,
    AutotunePass,
    ProtectBeforeAutodiff,
    ProtectStructure,
    TellSteps,
)
from autotune.rewrite.rederive import REDERIVE_POSITION, DecideTakenGradients

if TYPE_CHECKING:
    from autotune.policy.places import PolicySource


def mode(
    policy: PolicySource = None,
    base: str | Mode | None = None,
    *,
    example_inputs: ExampleInputs = None,
) -> Mode:
    """A PyTensor mode that chooses the algorithm for every solve, inverse, determinant and factor.

    ``policy``: None, the path of a YAML file, a dict or a ``Policy``; ``base``: the mode to extend,
    by default PyTensor's. ``example_inputs``: arrays by input or by its name, by which a matrix is probed
    for the iterations that conjugate gradients would take (docs/probing.md); they travel with the mode.
    Raises ``PolicyError`` for a policy that is not valid, ``TypeError`` or ``ValueError`` for examples that
    are not.
    """
    start = get_default_mode() if base is None else get_mode(base)
    checked(policy)
    examples = examples_from(example_inputs)
    return start.register(
        (DecideTakenGradients(policy, examples), REDERIVE_POSITION),
        (ProtectStructure(), PROTECT_POSITION),
        (AutotunePass(policy, examples), DECIDE_POSITION),
        (TellSteps(), STEPS_POSITION),
    )


def tune(
    outputs: Variable | list[Variable],
    policy: PolicySource = None,
    *,
    example_inputs: ExampleInputs = None,
):
    """The same expressions with the algorithm of every matrix decided, to be differentiated afterwards.

    ``loss = autotune.tune(loss); grads = pt.grad(loss, params)`` prices forward and backward
    together and gives the joint graph that a hand-written one would have. Compile it with
    ``autotune.mode()`` or under ``autotune.enable()``: these write the chosen algorithms. Returns a
    variable for a variable and a list for a list; inputs, shared variables and random variables are those
    of the original, and what these are made of is left alone. ``example_inputs`` as in ``mode``.
    """
    checked(policy)
    examples = examples_from(example_inputs)
    single = isinstance(outputs, Variable)
    wanted: list[Any] = [outputs] if single else list(outputs)
    callers = random_variables(wanted)
    tuned = decided(wanted, policy, examples)
    for old, new in zip(wanted, tuned, strict=True):
        if new.owner is not None and new not in callers:
            new.name = new.name or old.name
            vars(new.tag).update(vars(old.tag) | vars(new.tag))
    return tuned[0] if single else tuned


# -- the global door ----------------------------------------------------------------------------


_REGISTERED: dict[str, tuple[Any, tuple[str, ...], Any, float | None]] = {
    # just after the positions of ``mode``, so that a mode's own policy wins
    "autotune_rederive": (optdb, ("fast_run",), DecideTakenGradients, REDERIVE_POSITION + 0.01),
    "autotune_protect": (optdb, ("fast_run",), ProtectStructure, PROTECT_POSITION),
    "autotune_decide": (optdb, ("fast_run",), AutotunePass, DECIDE_POSITION + 0.01),
    "autotune_steps": (optdb, ("fast_run",), TellSteps, STEPS_POSITION),
    "autotune_lower_requests": (
        optdb,
        ("fast_compile",),
        partial(AutotunePass, only_lower=True),
        DECIDE_POSITION + 0.02,
    ),
    # found by their database's name alone: in PyMC's pregrad, not in a compile; the first also in the queries
    # that PyMC makes for log-densities if it is imported later
    "autotune_protect_pregrad": (optdb["canonicalize"], ("canonicalize",), ProtectBeforeAutodiff, None),
    "autotune_before_autodiff": (optdb["stabilize"], ("stabilize",), DecideBeforeAutodiff, None),
}
_switched_on: set[str] = set()

# Where PyMC keeps the rewrites by which it makes log-densities, and the one that folds constants: of queries
# that it made when it was imported. What comes before it is ours to register.
PYMC_REWRITES = ("pymc.logprob.rewriting", "logprob_rewrites_db")
PYMC_FOLDS = "pre-canonicalize"


def _registered() -> dict[str, tuple[Any, tuple[str, ...], Any, float | None]]:
    """All rewrites, by name, with where they go: the database, tags and position."""
    module = sys.modules.get(PYMC_REWRITES[0])
    if module is None:
        return _REGISTERED
    db = getattr(module, PYMC_REWRITES[1], None)
    position = getattr(db, "__position__", {}).get(PYMC_FOLDS)
    if db is None or position is None:
        warnings.warn(
            f"PyMC has no {'.'.join(PYMC_REWRITES)} with {PYMC_FOLDS!r}. Products of constants in its models "
            "may be folded before autotune reads them; please report this.",
            stacklevel=4,
        )
        return _REGISTERED
    before = (db, ("basic",), ProtectBeforeAutodiff, position - 0.01)
    return {**_REGISTERED, "autotune_protect_logp": before}


def enable(policy: PolicySource = None, *, example_inputs: ExampleInputs = None) -> None:
    """Let every compile from now on choose its algorithms, PyMC's included. Undone by ``disable``.

    ``example_inputs`` as in ``mode``. Called again it replaces the policy and the examples. Raises
    ``PolicyError`` for a policy that is not valid.
    """
    _put_in_force([checked(policy)], [examples_from(example_inputs)])


def disable() -> None:
    """Undo ``enable``: every query of PyTensor's databases gives what it gave before."""
    _put_in_force([], [])


@contextmanager
def enabled(policy: PolicySource = None, *, example_inputs: ExampleInputs = None) -> Iterator[Session]:
    """``enable`` for a block, on top of what is enabled around it.

    Gives a session whose ``plans`` lists the plan of everything compiled inside.
    """
    outer = list(enabled_policies), list(enabled_examples)
    _put_in_force([*outer[0], checked(policy)], [*outer[1], examples_from(example_inputs)])
    try:
        with Session() as session:
            yield session
    finally:
        _put_in_force(*outer)


def checked(policy: PolicySource) -> PolicySource:
    """``policy``, if it is valid; otherwise the error comes here, not at the first compile."""
    policy_in_force(policy, layers=False)
    return policy


def _put_in_force(policies: list[PolicySource], examples: list[Examples | None]) -> None:
    """Register the rewrites at first use, from then on switch them by their tags."""
    enabled_policies[:] = policies
    enabled_examples[:] = examples
    for name, (db, tags, make, position) in _registered().items():
        if policies and name not in _switched_on:
            if name in db:
                db.add_tags(name, *tags)
            else:
                where = {"use_db_name_as_tag": False} if position is None else {"position": position}
                db.register(name, make(), *tags, **where)
            _switched_on.add(name)
        elif not policies and name in _switched_on:
            db.remove_tags(name, *tags)
            _switched_on.remove(name)
