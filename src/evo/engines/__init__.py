"""Floor 2: where a job runs. A job names a function by string, carries a picklable payload and ends in an outcome.

May import: the standard library, `evo.base`, `evo.dsl` for the specs of engines; torch only inside a function, to fix
its number of threads; ray only inside the functions of `cluster.py`. Never here: what a job means, a retry of what a
job did, an exception that a job raised, or a result that depends on the number of workers.
"""
