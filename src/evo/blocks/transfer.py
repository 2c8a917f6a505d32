"""Copies between host and device that wait for no step in flight."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A host tensor on a device; one that is there already stays as it is."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.contiguous().pin_memory()
    return tensor.to(device, non_blocking=True)


class Arriving:
    """Device tensors on their way to the host: `wait` until they are there before anyone reads them."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        device = next(iter(tensors.values())).device
        # where the host would otherwise read what the device goes on to change
        self._tensors = {
            name: t.detach().to("cpu", non_blocking=True) if t.is_cuda else t.detach().clone()
            for name, t in tensors.items()
        }
        self._event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(device))

    def wait(self) -> dict[str, Tensor]:
        """The tensors on the host."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensors
