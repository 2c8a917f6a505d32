"""The decaying state family: `recur` and what describes it.

May import: torch, `evo.kernels.dispatch`, `evo.kernels.documents`.
"""

from evo.kernels.recurrence.call import RecurrenceCall
from evo.kernels.recurrence.recur import plan, recur

__all__ = ["RecurrenceCall", "plan", "recur"]
