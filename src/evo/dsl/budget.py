"""How much training a document stands for, where that is not said in steps.

There is no budget in seconds: it would be another one on another machine, and the same seed another run.
"""

from abc import abstractmethod
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import FIXED
from evo.dsl.spec import Spec

MOST_AMOUNT = 1e30
Amount = Annotated[float, Field(gt=0, le=MOST_AMOUNT)]


class BudgetSpec(Spec):
    """An amount of training, written by the one key of its unit: `{flops: 1e12}`. All candidates of a search get it."""

    is_keyed: ClassVar[bool] = True
    unit: ClassVar[str]
    """What people call it, behind the amount."""

    @property
    @abstractmethod
    def amount(self) -> float:
        """How much."""

    @abstractmethod
    def of_step(self, flops: float, tokens: int) -> float:
        """What a step uses of it, which costs so many FLOPs, forward and backward, and reads so many tokens."""

    def __str__(self) -> str:
        return f"{self.amount:.4g} {self.unit}"


class FlopsBudget(BudgetSpec):
    """Floating-point operations of the forward and backward passes, by the plan."""

    kind: ClassVar[str | None] = "flops"
    unit: ClassVar[str] = "FLOPs"

    flops: Annotated[Amount, Field(examples=[1e13]), FIXED]
    """How many."""

    @property
    def amount(self) -> float:
        """See `BudgetSpec.amount`."""
        return self.flops

    def of_step(self, flops: float, tokens: int) -> float:
        """Its FLOPs."""
        del tokens
        return flops


class TokensBudget(BudgetSpec):
    """Tokens that are read, whatever they cost."""

    kind: ClassVar[str | None] = "tokens"
    unit: ClassVar[str] = "tokens"

    tokens: Annotated[Amount, Field(examples=[1e6]), FIXED]
    """How many."""

    @property
    def amount(self) -> float:
        """See `BudgetSpec.amount`."""
        return self.tokens

    def of_step(self, flops: float, tokens: int) -> float:
        """Its tokens."""
        del flops
        return float(tokens)
