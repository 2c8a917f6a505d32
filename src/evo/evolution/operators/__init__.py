"""Mutation operators. Each is a small frozen object that lists its sites in a document and proposes a change at one.

A new operator is a class with `name`, `family`, `sites` and `propose`, and a row in `OPERATORS`.
"""

from evo.evolution.operators.base import Operator as Operator
from evo.evolution.operators.base import Proposal as Proposal
from evo.evolution.operators.base import WeightSources as WeightSources
from evo.evolution.operators.genes import Choice, Number, Resize
from evo.evolution.operators.layers import Insert, ReplaceFeedForward, ReplaceMixer
from evo.evolution.operators.stages import Duplicate, Join, Remove, Split, Swap
from evo.evolution.operators.wiring import Rewire

OPERATORS: tuple[tuple[Operator, float], ...] = (
    (Number(), 0.24),
    (Resize(), 0.08),
    (Choice(), 0.16),
    (ReplaceMixer(), 0.14),
    (ReplaceFeedForward(), 0.08),
    (Insert(), 0.08),
    (Remove(), 0.04),
    (Duplicate(), 0.04),
    (Swap(), 0.04),
    (Split(), 0.04),
    (Join(), 0.02),
    (Rewire(), 0.04),
)
"""Every operator with how often it is tried first."""
