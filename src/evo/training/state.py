"""The state of a training in bytes: weights, optimizer and step, from which it goes on as if it had not stopped."""

from __future__ import annotations

import torch
from safetensors.torch import load, save
from torch import Tensor

from evo.compiler.adapters import held_weights
from evo.training.loop import Trainer

MODEL, OPTIMIZER, COMPANION, STEP = "model.", "optimizer.", "companion.", "step"


def pack_state(trainer: Trainer) -> bytes:
    """All that the next step of a trainer depends on."""
    tensors = {MODEL + path: weight for path, weight in held_weights(trainer.model).items()}
    for path, state in trainer.optimizer.state_dict().items():
        tensors |= {f"{OPTIMIZER}{path}.{name}": tensor for name, tensor in state.items()}
    if trainer.companion is not None:
        tensors |= {COMPANION + name: tensor for name, tensor in trainer.companion.state_dict().items()}
    step = torch.tensor(trainer.step)
    return save({STEP: step, **{name: tensor.cpu().contiguous() for name, tensor in tensors.items()}})


@torch.no_grad()
def restore_state(trainer: Trainer, packed: bytes) -> None:
    """Put a state into a trainer of the same document. Raises KeyError or ValueError where it is of another one."""
    tensors = load(packed)
    for path, parameter in trainer.model.named_parameters():
        parameter.copy_(tensors[MODEL + path])
    saved: dict[str, dict[str, Tensor]] = {path: {} for path in trainer.optimizer.state_dict()}
    for key, tensor in tensors.items():
        if key.startswith(OPTIMIZER):
            path, _, name = key.removeprefix(OPTIMIZER).rpartition(".")
            saved[path][name] = tensor
    trainer.optimizer.load_state_dict(saved)
    if trainer.companion is not None:
        own = {key.removeprefix(COMPANION): tensor for key, tensor in tensors.items() if key.startswith(COMPANION)}
        trainer.companion.load_state_dict(own)
    trainer.step = int(tensors[STEP])
