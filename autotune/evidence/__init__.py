"""What a compile may find out: how an iteration converges on examples, and how long candidates take.

A `probe` evaluates a matrix on `examples` of the function's inputs and runs conjugate gradients
(`convergence`); `bounds` follow from the code alone.
`measured` times candidates (`stand_ins`, `trials`, `timing`) and remembers it (`store`).
"""
