"""Attention over a stencil: `attend` and what describes it. May import: torch, `evo.kernels.dispatch`."""

from evo.kernels.attention.attend import attend, plan
from evo.kernels.attention.call import AttentionCall
from evo.kernels.attention.probe import HeadStatistics, probe
from evo.kernels.attention.stencil import Stencil

__all__ = ["AttentionCall", "HeadStatistics", "Stencil", "attend", "plan", "probe"]
