"""A selection: every other earlier token, whatever it holds."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from evo.blocks.flow import Flow
from evo.blocks.select.module import Asked, Select
from evo.blocks.select.spec import Asker, SelectSpec
from evo.dsl.plan import BlockPlan
from evo.dsl.spec import Scope


@dataclass(frozen=True, kw_only=True)
class EvenPlan(BlockPlan):
    """Keys at even distances."""

    builder: ClassVar[str] = "strangers.selects:Even"


class EvenSelect(SelectSpec):
    """Keys at even distances."""

    kind: ClassVar[str | None] = "even"

    def chooser(self, scope: Scope, asker: Asker) -> EvenPlan:
        del scope, asker
        return EvenPlan(kind=self.label)

    def pairs(self, context: int) -> int:
        """Half of the past, rounded up."""
        return sum(t // 2 + 1 for t in range(context))


class Even(Select):
    """See the spec."""

    def attended(self, asked: Asked, stencil: Any, flow: Flow) -> Any:
        """The outputs over keys at even distances."""
        del flow
        places_S = torch.arange(asked.keys_BSGK.shape[1], device=asked.q_BTHK.device)
        distance_TS = places_S[-asked.q_BTHK.shape[1] :, None] - places_S
        return asked.within(stencil, (distance_TS % 2 == 0)[None, None])
