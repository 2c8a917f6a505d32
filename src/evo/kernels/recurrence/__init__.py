"""The decaying state family: `recur` and what describes it.

May import: torch, `evo.kernels.dispatch`, `evo.kernels.documents`.
"""

from evo.kernels.recurrence.problem import RecurrenceProblem
from evo.kernels.recurrence.recur import plan, recur

__all__ = ["RecurrenceProblem", "plan", "recur"]
