"""Floor 4: the trial. Optimizers, the training loop, scores, probes, measures, checkpoints, sampling.

May import everything below. Never here: archives, mutation, or what happened to other candidates.
"""
