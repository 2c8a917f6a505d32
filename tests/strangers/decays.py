"""A decay of another package."""

from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor

from evo.blocks.flow import Flow
from evo.blocks.recurrence.decays import DecaySpec
from evo.dsl.genes import Gene
from evo.dsl.plan import ZEROS, Weight, vector


class FadingSpec(DecaySpec):
    """A decay of exp(-softness exp(fade)) a head, learned and the same at every token."""

    kind: ClassVar[str | None] = "fading"
    rule: ClassVar[str] = "strangers.decays:fading"

    softness: Annotated[float, Field(gt=0), Gene(0.01, 1, "scale")] = 0.1
    """How much a state forgets at first."""

    def weights(self, width: int, heads: int, key_dim: int) -> tuple[Weight, ...]:
        return (vector("fade", heads, ZEROS),)


def fading(block: Any, decay: FadingSpec, x_BTD: Tensor, flow: Flow) -> tuple[Tensor, None]:
    """The same at every token, (H,)."""
    return -decay.softness * block.fade.exp(), None
