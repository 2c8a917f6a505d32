"""What makes weights of an attention's scores, and the numbers of the context that it needs."""

import math
from typing import Literal

Weigh = Literal[
    "softmax", "softmax1", "sigmoid", "relu", "relu2", "sparsemax", "entmax", "softpick", "stick_breaking"
]  # fmt: skip
POWERS: dict[Weigh, int] = {"relu": 1, "relu2": 2}
"""Weights that no sum divides: how they grow with scores, which are divided by the context."""


def offset(weigh: Weigh, context: int) -> float | None:
    """What is added to scores, so that weights sum to about one at first."""
    return -math.log(context) if weigh == "sigmoid" else None


def share(weigh: Weigh, context: int) -> float | None:
    """What weights are multiplied by, which is what scores divided by the context come to."""
    return float(context) ** -POWERS[weigh] if weigh in POWERS else None
