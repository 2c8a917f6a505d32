"""Loops whose loss is that of all turns: PonderNet's and Ouro's written out, decoding, causality."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import moved, organism, stage
from loops import BODY, CONVOLUTION, model
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from evo.blocks.flow import Flow
from evo.blocks.stages.loop.expected import ExpectedLoop
from evo.compiler.organism import Organism, OrganismState
from evo.training.causality import find_leak

TIMES, WEIGHT = 4, 0.3


def looped(**halt: Any) -> Organism:
    """A prelude, and a loop that is read out at each of its turns."""
    loop = {"name": "think", "kind": "loop", "of": BODY, "times": TIMES, "halt": {"by": "losses", **halt}}
    return moved(organism([stage("prelude", CONVOLUTION), loop]))


def tokens(seed: int = 0) -> Tensor:
    return torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(seed))


def turned(found: Organism, rows: Tensor) -> tuple[list[Tensor], Tensor]:
    """The states of all turns, and the chances to stop at each, (B, T, N)."""
    loop = found.stages["think"]
    assert isinstance(loop, ExpectedLoop)
    x = found.stages["prelude"].run({"x": [found.embed(rows)]}, Flow()).value()
    states, s, goes_on, shares = list[Tensor](), x, torch.ones(rows.shape, dtype=x.dtype), list[Tensor]()
    for turn in range(TIMES):
        s = loop.of[0].run({"x": [s + x]}, Flow()).value()
        stops = torch.sigmoid(s @ loop.halt[0] + loop.halt_bias) if turn < TIMES - 1 else torch.ones_like(goes_on)
        states.append(s)
        shares.append(goes_on * stops)
        goes_on = goes_on * (1 - stops)
    return states, torch.stack(shares, dim=-1)


def read(found: Organism, s: Tensor) -> Tensor:
    assert found.final_norm is not None
    return found.read(found.final_norm(s, Flow()))


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("prior", [None, 0.3])
def test_the_loss_is_that_of_all_turns(prior: float | None, weighed: bool) -> None:
    """sum_n p_n L_n + beta KL(p, prior): geometric (2107.05407, eqs. 4 to 6), or uniform, a divergence of log N less
    the entropy (2510.25741, section 3); values and gradients of every weight."""
    found, rows, targets = looped(prior=prior, loss=WEIGHT), tokens(), tokens(1)
    weights = torch.rand(rows.shape, generator=torch.Generator().manual_seed(2)) if weighed else None
    losses = found.losses(rows, targets, weights)
    states, shares = turned(found, rows)
    counts = torch.ones(rows.shape) if weights is None else weights
    each = [F.cross_entropy(read(found, s).transpose(1, 2), targets, reduction="none") for s in states]
    task = ((torch.stack(each, dim=-1) * shares).sum(-1) * counts).sum() / counts.sum()
    if prior is None:
        divergence = torch.log(torch.tensor(float(TIMES))) - Categorical(shares).entropy()
    else:
        geometric = [prior * (1 - prior) ** n for n in range(TIMES - 1)]
        wanted = torch.tensor([*geometric, 1 - sum(geometric)], dtype=shares.dtype).expand(shares.shape)
        divergence = kl_divergence(Categorical(shares), Categorical(wanted))
    torch.testing.assert_close(losses.task, task, check_dtype=False)
    torch.testing.assert_close(losses.auxiliary["ponder"], WEIGHT * divergence.mean(), check_dtype=False)
    leaves = list(found.parameters())
    got = torch.autograd.grad(losses.total, leaves)
    expected = torch.autograd.grad(task + WEIGHT * divergence.mean(), leaves)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)


def test_a_token_is_scored_where_its_chances_reach_the_threshold() -> None:
    """The first turn at which these sum to it (Ouro's exit); tokens stop at different turns."""
    found, rows = looped(threshold=0.6), tokens()
    loop = found.stages["think"]
    assert isinstance(loop, ExpectedLoop)
    with torch.no_grad():
        loop.halt.copy_(torch.randn(loop.halt.shape, generator=torch.Generator().manual_seed(5)).double() * 0.5)
        states, shares = turned(found, rows)
        at = (shares.cumsum(-1) < 0.6).sum(-1)
        assert len(set(at.flatten().tolist())) > 2
        chosen = torch.stack(states, dim=2).take_along_dim(at[..., None, None], dim=2)[:, :, 0]
        torch.testing.assert_close(found(rows), read(found, chosen))


def test_decoding_is_the_whole() -> None:
    """In any pieces, and nothing leaks."""
    found, rows = looped(threshold=0.5), tokens()
    assert find_leak(found) is None
    state, parts = OrganismState(), list[Tensor]()
    for part in rows.split([5, 1, 6], dim=1):
        logits, state = found.extend(part, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), found(rows))


def test_it_is_the_last_stage() -> None:
    """Another stage behind it would read what has no loss."""
    with pytest.raises(AssertionError, match="EVO352"):
        model(times=3, halt={"by": "losses"})
