"""The first few hundred random graphs: autotune changes no meaning. See `fuzz/__init__.py`."""

import pytest

from fuzz.command import described
from fuzz.trial import run_seed

SEEDS, ALWAYS, CHUNK = 300, 20, 10
STARTS = [*range(0, ALWAYS, CHUNK)]
STARTS += [pytest.param(start, marks=pytest.mark.slow) for start in range(ALWAYS, SEEDS, CHUNK)]


@pytest.mark.filterwarnings("ignore")  # random values overflow, divide by zero, are deprecated in NumPy
@pytest.mark.parametrize("start", STARTS)
def test_autotune_changes_no_meaning(start):
    outcomes = [run_seed(seed, linker="py") for seed in range(start, start + CHUNK)]
    failed = [o for o in outcomes if o.faults or o.status.startswith("error")]
    commands = [f"PYTHONPATH=tests python -m fuzz --linker py --one {o.seed} --show" for o in failed]
    told = [f"{line}\n{described(o.as_dict())} {o.status}" for o, line in zip(failed, commands, strict=True)]
    assert not failed, "\n".join(told)
    assert sum(o.status.startswith("skipped") for o in outcomes) < CHUNK
