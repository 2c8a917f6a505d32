"""Selections: which of the earlier keys a query of an attention meets, chosen by what they hold."""
