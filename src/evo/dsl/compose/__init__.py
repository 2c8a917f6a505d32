"""From what a document writes to the whole document: what it extends, what it defines, what the command line sets.

All of it happens on nodes, before any spec is built, so that every value keeps the place that it came from.
"""

from evo.dsl.compose.composed import Composed as Composed
from evo.dsl.compose.composed import compose as compose
