"""The table of attention backends and their order per device."""

from __future__ import annotations

from torch import Tensor

from evo.kernels.attention import flash, reference, sdpa, short, triton
from evo.kernels.attention.call import AttentionCall, AttentionExtras
from evo.kernels.dispatch import Backend, Table, always


def run_reference(
    call: AttentionCall, q: Tensor, k: Tensor, v: Tensor, extras: AttentionExtras, scale: float
) -> Tensor:
    """The equation, through the signature that all backends share."""
    return reference.attention(q, k, v, stencil=call.stencil, scale=scale, **extras._asdict())


def vendor_reasons(call: AttentionCall) -> list[str]:
    """SDPA without a mask: where the vendor's own kernels run on more than a few tokens, nothing is faster."""
    found = sdpa.reasons(call)
    if not (call.is_plain_causal or call.is_plain_full or call.queries == 1):
        found.append("the vendor kernels take plain causal, full and one-query problems only")
    return found


TABLE = Table(
    family="attention",
    backends=(
        Backend("short", short.run, short.reasons),
        Backend("flash-attn-4", flash.run, flash.reasons),
        Backend("vendor", sdpa.run, vendor_reasons),
        Backend("triton", triton.run, triton.reasons),
        Backend("sdpa", sdpa.run, sdpa.reasons),
        Backend("reference", run_reference, always),
    ),
    priority={"cpu": ("sdpa", "reference"), "cuda": ("short", "flash-attn-4", "vendor", "triton", "sdpa", "reference")},
)
