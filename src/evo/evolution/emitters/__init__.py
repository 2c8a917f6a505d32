"""Emitters: what makes the candidates of a generation. Each kind is a folder with its torch-free spec and its class."""
