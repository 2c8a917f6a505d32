"""Floor 6: what people read about models and runs: tables, pictures, pages.

May import: every floor below except `evo.interop` and `evo.bench`. Never here: measuring, deciding, writing into a run.
"""
