"""Floor 7: the Python API. What `import evo` offers: documents, plans, models, patches, searches.

May import: every floor below but the command line; torch in `models` and `search` only. Never here: logic that a floor
below could want, or a name that `evo.__all__` does not list.
"""
