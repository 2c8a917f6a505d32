"""Decoding several tokens a pass: predictions ahead draft them, and one pass of the organism checks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.compiler.organism import Organism
from evo.compiler.plan import Plan


@dataclass
class Acceptance:
    """How drafts have fared so far. passes: of the organism, those included that read tokens once more."""

    drafted: int = 0
    accepted: int = 0
    passes: int = 0


def require_ahead(plan: Plan) -> None:
    """Raise DiagnosticError (EVO527) where an organism predicts nothing beyond the next token."""
    if plan.ahead is None:
        message = "this organism predicts nothing beyond the next token, so nothing drafts"
        help = "train one with `ahead: {kind: sequential}`, or leave --speculate out"
        raise DiagnosticError([Diagnostic("EVO527", message, None, help)])


@torch.no_grad()
def speculate(
    model: Organism, prompt: list[int], tokens: int, sample: Callable[[Tensor], int], priors: int, told: Acceptance
) -> Iterator[int]:
    """The tokens that plain decoding draws, one by one (Leviathan et al. 2023, 2211.17192, one draw for both).

    A draft stays where `sample` draws it from the logits (V,) at its place: each draw happens once and in order.
    """
    model.eval()
    device = next(model.parameters()).device
    state, behind = model.initial_state(), model.initial_state()
    fed, drafts = prompt, list[int]()
    while tokens:
        before = state
        piece, state = model.passed(torch.tensor([[*fed, *drafts]], device=device), before, priors)
        rows_TV = piece.logits_BTV[0, len(fed) - 1 :].float().cpu()
        told.passes, told.drafted = told.passes + 1, told.drafted + len(drafts)
        stayed, token = 0, sample(rows_TV[0])
        yield token
        while stayed < len(drafts) and token == drafts[stayed]:
            stayed += 1
            token = sample(rows_TV[stayed])
            yield token
        told.accepted, tokens = told.accepted + stayed, tokens - stayed - 1
        if not tokens:
            return
        if spare := len(drafts) - stayed:
            stay = piece.tokens_BT.shape[1] - spare
            past = state.before(spare)
            if past is None:
                told.passes += 1
                piece, state = model.passed(piece.tokens_BT[:, :stay], before, priors)
            else:
                piece, state = piece.first(stay), past
        due_11 = torch.tensor([[token]], device=device)
        found_1K, behind = model.drafts(piece, due_11, tokens - 1, behind) if tokens > 1 else (due_11[:, :0], behind)
        fed, drafts = [token], found_1K[0].tolist()
