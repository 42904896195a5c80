"""What a matrix is, as graph variables: products with it, its parts, and what is asked of it.

`operators` (dense, diagonal, low rank, sums), `requests` (one request as an Op, with its pullback), `solver`
(what answers requests), `plain` (answers by PyTensor's own Ops), `marks` (what the user says of a matrix).
"""
