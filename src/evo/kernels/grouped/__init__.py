"""Products of rows with a stack of matrices, each run of rows with its own: what routed experts compute.

`call.py` says what the dispatcher knows, `reference.py` is the definition, `product.py` the one entrance with its
gradients, `backends.py` the table.
"""

from evo.kernels.grouped.call import GroupedCall, Groups
from evo.kernels.grouped.product import grouped_product, plan

__all__ = ["GroupedCall", "Groups", "grouped_product", "plan"]
