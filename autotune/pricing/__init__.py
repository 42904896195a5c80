"""Predicted seconds and peak bytes of a whole compiled function.

    price(fgraph, sizes, profile) -> Price(seconds, peak_bytes, nodes)

Reading order: `whole` (the price), `table` (which kernels each Op runs), the rules by kind (`linalg`,
`elementwise`, `moving`, `inner`), `sized` (lengths and memory order of every variable), `peak` (memory).
"""

from autotune.pricing.sized import ExampleSizes
from autotune.pricing.whole import NodePrice, Price, price, price_by_node

__all__ = ["ExampleSizes", "NodePrice", "Price", "price", "price_by_node"]
