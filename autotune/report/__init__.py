"""What users look at: explanations of functions and scripts, the map of who wins where, the demonstration.

`explain` finds the plan of a compiled function, `inside` the function in a callable, `model` explains a PyMC
model, with the hints of `advice`. `run_script` runs a script and prints its plans, `priced` prices its whole
functions, `compare_script` times them against plain PyTensor. `map` and `demo` are what they are called.
"""
