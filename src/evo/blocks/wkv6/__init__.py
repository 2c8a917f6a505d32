"""RWKV-6: a matrix state whose decay and token shift depend on the data."""
