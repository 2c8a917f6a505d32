"""Mutation and crossover of elites."""
