"""`autotune explain`: the plan of a compiled function (`explain`), and of all that a script compiles.

`running` runs a script and prints its plans; `pricing` prices its whole functions; `comparing` times them
against plain PyTensor.
"""
