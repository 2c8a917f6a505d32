"""Floor 2: one folder a block, with its torch-free `spec.py` and its `module.py`.

May import: `evo.base`, `evo.dsl`, `evo.kernels` (modules only). Never here: a block that names another block's class; a
block that contains blocks receives them built.
"""
