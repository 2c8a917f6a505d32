"""Learning-rate schedules: a scale in (0, 1] as a function of the step, so that a resumed run continues exactly.

Every schedule starts with a linear warm-up over the fraction `warmup` of the steps. Neither the first nor the last
step is wasted on a scale of zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


def lr_scale(spec: Any, step: int, steps: int) -> float:
    """The factor on the peak learning rate at `step`, 0 <= step < steps; later steps count as the last.

    `spec.kind` is 'wsd' (with `warmup`, `decay`: fractions of the steps), 'cosine' (`warmup`, `floor`: the scale at the
    end) or 'constant' (`warmup`). Raises KeyError for another kind.
    """
    step = min(step, steps - 1)
    warmup_steps = math.ceil(spec.warmup * steps)
    after_warmup = _SHAPES[spec.kind]
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return after_warmup(spec, step, steps, warmup_steps)


def _wsd(spec: Any, step: int, steps: int, warmup_steps: int) -> float:
    """Warm up, stay, decay linearly (MiniCPM, arXiv 2404.06395; linear as in Hägele et al., arXiv 2405.18392)."""
    decay_steps = min(math.ceil(spec.decay * steps), steps - warmup_steps)
    return min(1.0, (steps - step) / (decay_steps + 1))


def _cosine(spec: Any, step: int, steps: int, warmup_steps: int) -> float:
    """Half a cosine from 1 towards `floor`, which it would reach one step after the last (SGDR, arXiv 1608.03983)."""
    progress = (step - warmup_steps) / (steps - warmup_steps)
    return spec.floor + (1 - spec.floor) * 0.5 * (1 + math.cos(math.pi * progress))


def _constant(spec: Any, step: int, steps: int, warmup_steps: int) -> float:
    return 1.0


_SHAPES: dict[str, Callable[[Any, int, int, int], float]] = {"wsd": _wsd, "cosine": _cosine, "constant": _constant}
