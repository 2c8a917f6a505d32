"""evo: evolve neural architectures written as text. Importing it defines names and nothing else."""

__version__ = "0.1.0"
