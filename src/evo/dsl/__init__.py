"""Floor 1: the language. Specs, genes, patches, YAML with positions, the canonical form, plans and their cost rules.

May import: `evo.base`, pydantic, PyYAML. Never here: torch, or the name of one particular block outside `index.py`.
"""
