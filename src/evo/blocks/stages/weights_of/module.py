"""A stage run again: the same modules, with adapters of this use beside their maps."""

from __future__ import annotations

from collections.abc import Mapping

from evo.blocks.base import Block
from evo.blocks.stages.adapted.module import AdaptedStage, Use
from evo.blocks.stages.stage import Stage
from evo.blocks.stages.weights_of.spec import WeightsOfPlan


class WeightsOf(Use):
    """Another stage on other inputs."""

    def __init__(self, plan: WeightsOfPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.weights_of = plan.weights_of

    def borrow(self, stages: Mapping[str, Stage]) -> None:
        """Take the stage whose weights it has, of those of the organism by name."""
        stage = stages[self.weights_of]
        self.take(stage.plain if isinstance(stage, AdaptedStage) else stage)
