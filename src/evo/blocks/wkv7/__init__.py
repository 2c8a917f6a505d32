"""RWKV-7: a matrix state that removes what it replaces, by a rule more general than the delta rule."""
