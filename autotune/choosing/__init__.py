"""The steps of `autotune.choose`: `candidates` and their prices, `margins` by which one must win.

`best_preconditioner` is for iterations; `all_sizes` and `crossing` are for sizes known only at run time.
"""
