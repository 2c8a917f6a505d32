"""Random search: mutants of the seeds."""
