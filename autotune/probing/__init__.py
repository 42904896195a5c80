"""What is known of a matrix when compiling: `spectrum`, by the code (`bounds`) or by a `probe`.

A probe evaluates the matrix on `examples` of the function's inputs and runs a `trial` of conjugate gradients,
which a `forecast` continues where it is cut short.
"""
