"""Attention whose keys are reflected by the tokens between them and their query (PaTH)."""
