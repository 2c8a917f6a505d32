"""The small transformer that the searches of these runners begin with, unless they are given another."""

ORGANISM = """
evo: 1
organism:
  width: 128
  context: 128
  stages: [{name: body, repeat: 4, mix: {kind: attention, heads: 4}}]
"""
