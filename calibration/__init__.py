"""Measuring what the kernels of `cost_models` cost on this machine.

- `timing_graph`: a small PyTensor graph that times a kernel, run through the linker that users run.
- `graphs`: one for each kernel; those of `dense_graphs`, `batch_graphs` and `structured_graphs` too.
- `grids`: the sizes at which each kernel is timed.
- `measure`: honest timing: warm-up, enough loops, interleaved repeats, the minimum, a budget.
- `worker`: a child process that compiles and times, so that a crash or a hang costs one kernel.
- `session`: the raw measurements, kept so that an interrupted calibration resumes.
- `run`: `calibrate()`, which puts these together and saves a profile.
- `held_out`, `validation`: predicted against measured at shapes never timed.
- `report`: the table of prices and held-out errors.
- `comparison`: two profiles side by side.
- `pictures`: measured points, fitted curves, residuals (needs matplotlib).
"""
