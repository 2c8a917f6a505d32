"""Stages: the nodes of an organism's graph. One folder a kind; each reads the outputs of earlier stages by name."""
