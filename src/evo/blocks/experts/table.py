"""A table that says which experts each token meets."""

from __future__ import annotations

from torch import Tensor, nn

from evo.blocks.base import Block


class Assigned(Block):
    """Ids of experts by token. They are kept as other weights are, so those up to 256 are exact in bfloat16 too."""

    gives_vectors = False
    ids: nn.Parameter

    def chosen(self, tokens_BT: Tensor) -> Tensor:
        """(B, T) -> (B, T, P) int64."""
        return self.ids[tokens_BT].round().long()
