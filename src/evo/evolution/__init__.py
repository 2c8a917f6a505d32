"""Floor 5: the search. What is asked (emitters, mutation, crossover, the scheduler of rungs), what is told (trials and
evaluations), what that is worth (fitness, scoring, archives), and what is kept (journal, lineage, run directory).

May import everything below. All that makes candidates, and the records of what was asked and told, stay torch-free.
Never here: what a task, an optimizer or a block means, a score told by its name, or a result that depends on the order
in which trials end.
"""
