"""Floor 3: from a spec to a plan (torch-free: `resolve`, `check`, `plan`), from a plan to a module (`build`, ...).

May import: `evo.base`, `evo.dsl`, `evo.blocks`, `evo.kernels`. Never here: training, or a block's name.
"""
