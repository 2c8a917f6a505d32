"""Floor 2: one folder an optimizer, with its torch-free `spec.py` and its `rule.py`.

A spec says which rule updates each weight of a plan (`OptimizerSpec.assign`); a rule is the functional step of one
group of parameters (`rule.Rule`), the same for eager, captured and stacked steps.

May import: `evo.base`, `evo.dsl`, `evo.kernels` (rules only). Never here: models, names of weights (a weight's group
and axes say what it is), values read by the host during a step.
"""
