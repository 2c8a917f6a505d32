"""Held-out scores: bits per byte on text that no candidate trains on."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from evo.compiler.organism import Organism
from evo.data.batches import held_out_batches
from evo.data.corpus import Corpus
from evo.training.device import autocast

HELD_OUT_TOKENS = 32_768
"""How many held-out bytes a score covers unless asked otherwise."""
BATCH_TOKENS = 4096
"""How many of them go through the model at once."""


@torch.no_grad()
def bits_per_byte(
    model: Organism, corpus: Corpus, context: int, *, tokens: int = HELD_OUT_TOKENS, precision: str = "auto"
) -> float:
    """The mean of -log2 p(next byte) over a fixed cover of the held-out text; not finite if the model's logits are not.

    Args:
        context: window length in bytes; every window starts without memory, so its first bytes are the hardest.
        tokens: about how many bytes are scored.
    """
    device = next(model.parameters()).device
    total = torch.zeros((), dtype=torch.float64)
    count = 0
    for inputs, targets in held_out_batches(corpus, context, tokens, batch=max(1, BATCH_TOKENS // context)):
        inputs_BT, targets_BT = torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device)
        with autocast(device, precision):
            logits_BTV = model(inputs_BT)
        loss = F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), reduction="sum")
        total += loss.cpu().double()
        count += targets.size
    return float(total) / count / math.log(2)
