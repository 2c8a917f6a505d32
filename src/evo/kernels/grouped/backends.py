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
    """torch's own grouped product. It reads matrices whichever of their sides is dense: the backward pass has the
    other one, and copying a stack would cost as much as the product."""
    return F.grouped_mm(_rows(x_NI), _matrices(weight_EOI).mT, offs=_ends(counts_E))


def run_vendor_outer(y_NO: Tensor, x_NI: Tensor, counts_E: Tensor) -> Tensor:
    """The same for gradients of matrices."""
    return F.grouped_mm(_rows(y_NO).t(), _rows(x_NI), offs=_ends(counts_E))


def _rows(x_NI: Tensor) -> Tensor:
    """x if its rows lie as the vendor reads them, or dense. Entries begin at any row, so that each must be aligned."""
    return x_NI if _is_read(x_NI) else _dense(x_NI)


def _matrices(weight_EOI: Tensor) -> Tensor:
    """The same of a stack, of which either side of the matrices may be the dense one."""
    return weight_EOI if _is_read(weight_EOI) or _is_read(weight_EOI.mT) else _dense(weight_EOI)


def _is_read(x: Tensor) -> bool:
    """Whether x has dense rows that do not overlap, all of which begin at multiples of 16 bytes."""
    *outer, row, column = x.stride()
    begins = (*outer, row, x.storage_offset())
    return column == 1 and row >= x.shape[-1] and all(begin % ALIGNED == 0 for begin in begins)


def _dense(x: Tensor) -> Tensor:
    """A copy, where `contiguous` would leave a row that stands alone with the stride that it has."""
    return x.clone(memory_format=torch.contiguous_format)


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
