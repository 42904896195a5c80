"""Numbers of the algorithms that iterate, for who prices them without importing them."""

# Ranks of a preconditioner with a meaning of their own.
NONE, JACOBI = -1, 0
# Probes of the pilot sample of a log-determinant, and of every block after it.
BLOCK = 8
