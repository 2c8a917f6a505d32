"""The table of backends of grouped products, and their order per device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.kernels.dispatch import Backend, Table, always
from evo.kernels.grouped import reference
from evo.kernels.grouped.call import GroupedCall

ALIGNED = 8
"""The vendor's product reads rows of 16 bytes: 8 half-precision numbers."""


def run_vendor(x_NI: Tensor, weight_EOI: Tensor, counts_E: Tensor) -> Tensor:
    """torch's own grouped product."""
    return F.grouped_mm(x_NI.contiguous(), weight_EOI.contiguous().mT, offs=_ends(counts_E))


def run_vendor_outer(y_NO: Tensor, x_NI: Tensor, counts_E: Tensor) -> Tensor:
    """The same for gradients of matrices."""
    return F.grouped_mm(y_NO.contiguous().t(), x_NI.contiguous(), offs=_ends(counts_E))


def _ends(counts_E: Tensor) -> Tensor:
    return counts_E.cumsum(0).to(torch.int32)


def vendor_reasons(call: GroupedCall) -> list[str]:
    """Why torch's grouped product cannot run, or would make the host wait."""
    found = [] if call.device == "cuda" else ["torch's grouped product is for CUDA"]
    if call.dtype != "bfloat16":
        found.append(f"torch's grouped product takes bfloat16 without asking the host, found {call.dtype}")
    if call.inner % ALIGNED or call.outer % ALIGNED:
        found.append(f"torch's grouped product takes widths that are multiples of {ALIGNED}")
    return found


TABLE = Table(
    family="grouped",
    backends=(
        Backend("grouped_mm", run_vendor, vendor_reasons),
        Backend("all", reference.product_of_all, always),
        Backend("reference", reference.product, always),
    ),
    priority={"cpu": ("reference",), "cuda": ("grouped_mm", "all", "reference")},
)

OUTER = {"grouped_mm": run_vendor_outer, "all": reference.outer_of_all, "reference": reference.outer}
"""The gradient of the matrices on each of these backends."""
