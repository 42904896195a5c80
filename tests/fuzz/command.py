"""The command line of the fuzzer: `python -m fuzz --help`."""

import argparse
import collections
import json
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from multiprocessing import connection
from pathlib import Path

from fuzz.settings import DOORS, LINKERS

EXAMPLES = """\
examples (in the folder tests/, or with PYTHONPATH=tests):
  python -m fuzz --count 500                          500 graphs, linkers and doors mixed
  python -m fuzz --start 20000 --count 300 --linker numba
  python -m fuzz --seconds 3600 --jobs 2 --shrink build/fuzz
  python -m fuzz --one 73 --show                      one graph again, with the plan
  python -m fuzz --one 73 --shrink build/fuzz         the same as a small script
"""
PROGRESS_EVERY = 20.0  # seconds
SILENCE = 3600  # seconds after which processes that say nothing are ended
RENEWED = 1000  # seeds per process


def parser():
    p = argparse.ArgumentParser(
        prog="python -m fuzz",
        description="Random graphs compiled by plain PyTensor and with autotune, run, and judged.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--start", type=int, default=0, metavar="SEED", help="the first seed (0)")
    p.add_argument("--count", type=int, default=300, metavar="N", help="the number of graphs (300)")
    p.add_argument("--one", type=int, metavar="SEED", help="this one seed only")
    p.add_argument("--linker", choices=LINKERS, default="mix", help="mix: py and the VM (mix)")
    p.add_argument("--door", choices=DOORS, default="mix", help="how autotune comes in (mix)")
    p.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many seconds")
    p.add_argument("--jobs", type=int, default=1, help="processes (1)")
    p.add_argument("--results", type=Path, metavar="FILE", help="one JSON line per graph goes to FILE")
    p.add_argument("--shrink", type=Path, metavar="FOLDER", help="a small script per fault goes to FOLDER")
    p.add_argument("--outputs", type=_numbers, metavar="0,3", help="only these outputs of the graph")
    p.add_argument("--show", action="store_true", help="with --one: the graph, the plan, what was met")
    return p


def _numbers(text):
    return tuple(int(part) for part in text.split(","))


def main(arguments=None):
    """Run, and exit with 1 where there is a fault or an error of the fuzzer's own."""
    options = parser().parse_args(arguments)
    isolate()
    seeds = [options.one] if options.one is not None else range(options.start, options.start + options.count)
    started, summary = time.perf_counter(), Summary()
    try:
        for outcome in outcomes(seeds, options):
            summary.add(outcome)
            if options.results:
                with options.results.open("a") as file:
                    file.write(json.dumps(outcome, default=str) + "\n")
            if time.perf_counter() - started > options.seconds:
                break
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    print(summary.text())
    sys.exit(1 if summary.failed or summary.broken else 0)


def isolate():
    """Settings of nobody: an empty home, no C compiler, one thread. Before PyTensor is imported."""
    home = tempfile.mkdtemp(prefix="autotune-fuzz-")
    os.environ.update(AUTOTUNE_HOME=f"{home}/data", XDG_CONFIG_HOME=f"{home}/config")
    os.environ.pop("AUTOTUNE_POLICY", None)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("PYTENSOR_FLAGS", f"cxx=,base_compiledir={home}/compiledir")
    warnings.simplefilter("ignore")


def outcomes(seeds, options):
    """Outcomes as they come, from this process or from several."""
    if options.jobs <= 1 or len(seeds) <= 1:
        for seed in seeds:
            yield run(seed, options)
    else:
        yield from outcomes_of_workers(
            [Worker(seeds[i :: options.jobs], options, work) for i in range(options.jobs)]
        )


def outcomes_of_workers(workers):
    """The end of a process in the middle of a seed is a fault of that seed; the next run in a new one."""
    try:
        while workers := [worker for worker in workers if worker.seeds]:
            ready = connection.wait([worker.pipe for worker in workers], timeout=SILENCE)
            if not ready:  # not even the limits on processor time end it
                for worker in workers:
                    worker.process.kill()
            for worker in workers:
                if worker.pipe in ready:
                    yield from worker.receive()
    finally:
        for worker in workers:
            worker.process.kill()


class Worker:
    """A process that runs its seeds in their order, renewed after `RENEWED` of them to give memory back."""

    def __init__(self, seeds, options, task):
        self.seeds, self.options, self.task = collections.deque(seeds), options, task
        self.start()

    def start(self):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe(duplex=False)
        batch = list(self.seeds)[:RENEWED]
        self.process = context.Process(target=self.task, args=(batch, self.options, other), daemon=True)
        self.process.start()
        other.close()

    def receive(self):
        """What has come: the outcome of the first seed, the end of a batch, or the end of the process."""
        try:
            found = self.pipe.recv()
        except EOFError:
            self.process.join()
            found = crashed(self.seeds[0], self.process.exitcode)
        if found is not None:
            self.seeds.popleft()
            yield found
        if self.seeds and (found is None or found["status"] == "crash"):
            self.start()


def work(seeds, options, pipe):
    for seed in seeds:
        pipe.send(json.loads(json.dumps(run(seed, options), default=str)))
    pipe.send(None)


def crashed(seed, code):
    text = f"the process ended or hung in this seed, exit code {code}"
    return {"seed": seed, "status": "crash", "faults": [["crash", text]], "tags": {}, "seconds": 0.0}


def run(seed, options):
    """One seed; shown and shrunk as asked."""
    from fuzz.trial import run_seed

    warnings.simplefilter("ignore")
    kept = []
    outcome = run_seed(seed, options.linker, options.door, options.outputs, kept)
    if options.show and options.one is not None and kept:
        show(kept[0])
    found = outcome.as_dict()
    if outcome.faults and options.shrink and kept:
        from fuzz.shrink import shrink_to_script

        found["script"] = shrink_to_script(kept[0], outcome, options.shrink)
    return found


def show(trial):
    import pytensor

    import autotune

    for i in trial.case.g.inputs:
        print(f"input {i.var} {i.var.type}: {i.dims} {i.kind}{' shared' if i.shared else ''}")
    pytensor.dprint(trial.case.outputs)
    if trial.fn is not None and trial.chosen:
        print(autotune.explain(trial.fn))
        pytensor.dprint(trial.fn)


class Summary:
    """Counts by kind, faults as they come, and a line of progress."""

    def __init__(self):
        self.started = self.told = time.perf_counter()
        self.graphs = self.failed = self.broken = 0
        self.kinds, self.statuses, self.tags = (collections.Counter() for _ in range(3))
        self.seeds = collections.defaultdict(list)

    def add(self, outcome):
        self.graphs += 1
        self.statuses[outcome["status"].split(":")[0]] += 1
        self.tags.update(outcome["tags"])
        self.broken += outcome["status"].startswith("error")
        if outcome["faults"]:
            self.failed += 1
            for kind in {kind for kind, _ in outcome["faults"]}:
                self.kinds[kind] += 1
                self.seeds[kind].append(outcome["seed"])
            print(described(outcome), flush=True)
        elif outcome["status"].startswith("error"):
            print(f"seed {outcome['seed']}: {outcome['status']}\n{outcome['fuzzer']}", flush=True)
        now = time.perf_counter()
        if now - self.told > PROGRESS_EVERY:
            self.told = now
            print(self.line(), file=sys.stderr, flush=True)

    def line(self):
        seconds = time.perf_counter() - self.started
        rate = self.graphs / max(seconds, 1e-9)
        return f"{self.graphs} graphs in {seconds:.0f} s ({rate:.1f} a second), {self.failed} with faults"

    def text(self):
        lines = [self.line(), "ended: " + counts(self.statuses), "met: " + counts(self.tags)]
        for kind, count in self.kinds.most_common():
            seeds = ", ".join(map(str, sorted(self.seeds[kind])[:30]))
            lines.append(f"fault {kind}: {count} graphs (seeds {seeds})")
        return "\n".join(lines)


def described(outcome):
    """A failing seed in a few lines: what it is, its faults, how to see it again."""
    how = [
        outcome.get("linker"),
        outcome.get("door"),
        outcome.get("policy", (None,))[0],
        outcome.get("chosen"),
    ]
    lines = [
        f"seed {outcome['seed']}: {', '.join(map(str, how))}",
        "   " + "; ".join(outcome.get("log", [])),
    ]
    lines += [f"   [{kind}] {text[:900]}" for kind, text in outcome["faults"][:3]]
    if outcome.get("script"):
        lines.append(f"   as a script: {outcome['script']}")
    return "\n".join(lines)


def counts(counter):
    return ", ".join(f"{name} {count}" for name, count in counter.most_common() if count)
