"""What is known of a matrix when compiling: `spectrum`, by its structure (`bounds`) or by a `probe`.

A probe evaluates the matrix on `examples` of the function's inputs and runs a `trial` of conjugate gradients.
"""
