"""A differential fuzzer: random graphs, compiled by plain PyTensor and with autotune, must give the same.

    make fuzz SEEDS=20000 LINKER=mix        # 20,000 graphs; START= the first seed
    make fuzz-nightly                       # for hours; every fault becomes a small script in build/fuzz/
    PYTHONPATH=tests python -m fuzz --help

A graph is a function of its seed alone, on every machine. In the order in which a seed goes through the
files:

1. **What is computed.** `choices` and `values` are random decisions and numbers; `generator` holds lengths,
   dtypes and inputs. `diagonals`, `low_ranks`, `dense`, `bands`, `parts` and `matrices` spell matrices;
   `requests`, `factor_requests`, `scalar_requests` and `contractions` ask something of them, with what
   `asking` gives;
   `batches` does both for batches. `graphs` assembles whole graphs, `wrappers` puts OpFromGraph, Scan,
   ifelse or vectorize_graph around them, `derivatives` differentiates, `case` is the result, with the
   values of each call and values of wrong lengths.
2. **How.** `settings` draws linker, door, rewrites, policy and hints; `compiling` compiles plainly and with
   autotune.
3. **What is right.** `reference` evaluates the raw graph in long double, with the eliminations of
   `long_double`; `judge` compares values, dtypes, shapes and NaN patterns; `checks` looks at messages,
   plans, pins, pickling and arrays; `watching` records what is logged and finds cycles and hangs. `trial`
   does all this for one seed: it compiles and looks at the function, which `runs` then runs and judges.
4. **What is reported.** `command` is the command line; `shrink` makes a failing graph small, `script`
   writes it down.

**Register a structure.** Every spelling is an entry of a table, and every entry is drawn: add a function of
`Parts` to `diagonals.DIAGONALS`, `low_ranks.GRAM` (or `SYMMETRIC`, `GENERAL`), `dense.DENSE`, `parts.PARTS`
or `matrices.COMPOUNDS`; a function of `Ask` to one of the tables of requests; a function of `Batch` to those
of `batches`. A new structure is a file with a table and a function ``(g, dim, depth) -> Matrix``, and one
entry in `matrices.FAMILIES`. New entries change what seeds mean, so a fault is kept as a test of its own or
as a script, never as a seed.
"""
