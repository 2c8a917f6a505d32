"""Floor 5: the search. Mutation, crossover, fitness, the ask-tell loop, the journal and the run directory.

May import everything below. `sites`, `sample`, `operators`, `mutate` and `crossover` stay torch-free.
"""
