"""`autotune explain`: the plan of a compiled function (`explain`), and of all that a script compiles.

`running` runs a script and prints its plans; `comparing` times its functions against plain PyTensor.
"""
