"""Feed-forwards whose maps are products of smaller ones: blocks on a diagonal, Monarch, Kronecker, low rank."""
