"""The command counts what comes, and survives a process that dies."""

import os

import pytest

from fuzz.command import Summary, Worker, outcomes, outcomes_of_workers, parser

FINE = {"status": "ok", "faults": [], "tags": {"met": 1}, "seconds": 0.1}


def dies_at_three(seeds, options, pipe):
    """In place of the work of a process."""
    for seed in seeds:
        if seed == 3:
            os._exit(11)
        pipe.send({"seed": seed, **FINE})
    pipe.send(None)


def test_a_process_that_dies_is_a_fault_of_its_seed_and_the_others_run():
    workers = [Worker(range(start, 6, 2), None, dies_at_three) for start in (0, 1)]
    found = {outcome["seed"]: outcome for outcome in outcomes_of_workers(workers)}
    assert sorted(found) == list(range(6))
    assert found[3]["faults"] == [["crash", "the process ended or hung in this seed, exit code 11"]]
    assert all(found[seed]["status"] == "ok" for seed in (0, 1, 2, 4, 5))


@pytest.mark.slow
def test_two_processes_run_real_seeds():
    options = parser().parse_args(["--count", "2", "--jobs", "2", "--linker", "py"])
    assert sorted(outcome["seed"] for outcome in outcomes(range(2), options)) == [0, 1]


def test_faults_are_counted_by_graph_and_kind(capsys):
    summary = Summary()
    summary.add({"seed": 1, **FINE})
    summary.add({"seed": 2, **FINE, "faults": [["value", "far off"], ["value", "again"], ["nan", "lost"]]})
    summary.add({"seed": 3, **FINE, "status": "error in the fuzzer: oh", "fuzzer": "trace"})
    assert (summary.graphs, summary.failed, summary.broken) == (3, 1, 1)
    assert "fault value: 1 graphs (seeds 2)" in summary.text()
    assert "far off" in capsys.readouterr().out


def test_the_help_shows_examples():
    assert "python -m fuzz --one" in parser().format_help()
    with pytest.raises(SystemExit):
        parser().parse_args(["--linker", "jax"])
