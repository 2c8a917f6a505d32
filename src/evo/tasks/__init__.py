"""Floor 2: what is learned. One folder a task: its torch-free `spec.py`, and `task.py` with its batches and its scores.

May import: `evo.base`, `evo.dsl`, `evo.kernels`, `evo.data`. Never here: a model, an optimizer, or a random state
that no stream names.
"""
