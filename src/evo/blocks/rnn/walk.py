"""All tokens of a recurrent network one after another, without a graph of every operation of every token.

What a token leaves is a function of the memory before it. Going back, only the adjoint of that memory has to pass from
token to token: the partial derivatives by which it does are made for all tokens at once, as are all gradients of
weights and inputs once the adjoints are known (backpropagation through time, Werbos 1990).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from evo.blocks.rnn.cells import Cell, Memory, emptied, reset
from evo.kernels.members import Fold, folds
from evo.kernels.operators import operator

Given = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
"""What tokens bring, and R of the gates; the bias and the R of a candidate that are a gru's."""


@operator("rnn", folds(Fold((0, 0, 0, 0, 1, 0), (1,))))
def walk(
    tokens_HTBGP: Tensor,
    own_HQP: Tensor,
    bias_HP: Tensor | None,
    again_HPP: Tensor | None,
    before_MHBP: Tensor,
    starts_HTB: Tensor | None,
    name: str,
    forget: str,
    act: str,
) -> Tensor:
    """Memories after every token, (M, H, T, B, P), of networks of H blocks.

    tokens_HTBGP: W x + b of every gate. own_HQP: R of the gates, of those that read h; again_HPP: R of a candidate that
    reads r h. bias_HP: see `Cell.step`. before_MHBP: the first memory. starts_HTB: where documents start.
    """
    cell, own_HPQ = Cell(name, forget, act), own_HQP.mT
    memory, found = before_MHBP.unbind(0), list[Memory]()
    extra = None if bias_HP is None else bias_HP[:, None]
    for t, tokens_HBGP in enumerate(tokens_HTBGP.unbind(1)):
        if starts_HTB is not None:
            memory = emptied(memory, starts_HTB[:, t, :, None])
        own_HBGP = torch.bmm(memory[0], own_HPQ).unflatten(-1, (-1, tokens_HBGP.shape[-1]))
        if again_HPP is not None:
            extra = torch.bmm(reset(tokens_HBGP, own_HBGP, memory[0]), again_HPP.mT)
        memory = cell.step(tokens_HBGP, own_HBGP, extra, memory)
        found.append(memory)
    return torch.stack([torch.stack(part, dim=1) for part in zip(*found, strict=True)])


@walk.register_fake
def _(tokens: Tensor, own: Tensor, bias: Any, again: Any, before: Tensor, *others: Any) -> Tensor:
    M, H, B, P = before.shape
    return tokens.new_empty(M, H, tokens.shape[1], B, P)


@operator("rnn_gradients", folds(Fold((1, 1, 0, 0, 0, 0, 1, 0), (0, 0, 0, 0, 1))))
def gradients(
    dmemories_MHTBP: Tensor,
    memories_MHTBP: Tensor,
    tokens_HTBGP: Tensor,
    own_HQP: Tensor,
    bias_HP: Tensor | None,
    again_HPP: Tensor | None,
    before_MHBP: Tensor,
    starts_HTB: Tensor | None,
    name: str,
    forget: str,
    act: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of tokens, own, bias, again (empty without these) and before."""
    cell = Cell(name, forget, act)
    earlier = torch.cat((before_MHBP[:, :, None], memories_MHTBP[:, :, :-1]), dim=2).unbind(0)
    if starts_HTB is not None:
        earlier = emptied(earlier, starts_HTB[..., None])
    steps = _Steps(cell, (tokens_HTBGP, own_HQP, bias_HP, again_HPP), earlier)
    adjoints, before = steps.go_back(dmemories_MHTBP.unbind(0), starts_HTB)
    before += [torch.zeros_like(part) for part in before_MHBP[len(before) :]]
    dtokens, down, dbias, dagain = steps.gradients(adjoints)
    return dtokens, down, dbias, dagain, torch.stack(before)


@gradients.register_fake
def _(dmemories: Tensor, memories: Tensor, *given: Any) -> tuple[Tensor, ...]:
    tokens, own, bias, again, before, *_ = given
    return tuple(before.new_empty(0) if x is None else torch.empty_like(x) for x in (tokens, own, bias, again, before))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.settings = inputs[6:]
    ctx.save_for_backward(output, *inputs[:6])


def _backward(ctx: Any, dmemories: Tensor) -> tuple[Any, ...]:
    memories, *given = ctx.saved_tensors
    dtokens, down, dbias, dagain, dbefore = gradients(dmemories, memories, *given, *ctx.settings)
    _, _, bias, again, _, _ = given
    return dtokens, down, None if bias is None else dbias, None if again is None else dagain, dbefore, *[None] * 4


walk.register_autograd(_backward, setup_context=_save)


class _Steps:
    """The steps of all tokens at once, each after the memory that it found.

    left: what a token leaves, but for what no gradient passes. reset: r h, where a map reads it.
    """

    @torch.enable_grad()
    def __init__(self, cell: Cell, given: Sequence[Tensor | None], earlier: Memory) -> None:
        self.given = tuple(None if x is None else x.detach().requires_grad_() for x in given)
        self.tokens, self.own, bias, self.again = cast(Given, self.given)
        memory = tuple(part.detach().requires_grad_() for part in earlier)
        mapped = _mapped(earlier[0], self.own).unflatten(-1, (-1, self.tokens.shape[-1]))
        extra, self.reset = None if bias is None else bias[:, None, None], None
        if self.again is not None:
            self.reset = reset(self.tokens, mapped, memory[0])
            extra = _mapped(self.reset.detach(), self.again)
        self.left = [part for part in cell.step(self.tokens, mapped, extra, memory) if part.requires_grad]
        inputs = [mapped, *memory[: len(self.left)]]
        self.reset_partials = [] if self.reset is None else [_partials(self.reset, inputs[:2])]
        if self.reset is not None:
            inputs.append(cast(Tensor, extra))
        self.partials = [_partials(part, inputs) for part in self.left]

    @torch.no_grad()
    def go_back(self, dmemories: Sequence[Tensor], starts_HTB: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
        """The adjoints, of all tokens, of what they leave and of r h; and those of the first memory's parts."""
        given = [part.unbind(1) for part in dmemories[: len(self.left)]]
        flowing, found = [torch.zeros_like(part[0]) for part in given], list[list[Tensor]]()
        for t in reversed(range(len(given[0]))):
            adjoints = [part[t] + more for part, more in zip(given, flowing, strict=True)]
            down_HBGP, *before = _pulled(self.partials, t, adjoints)
            if self.again is not None:
                adjoints.append(torch.bmm(before.pop(), self.again))
                more = _pulled(self.reset_partials, t, adjoints[-1:])
                down_HBGP, before[0] = down_HBGP + more[0], before[0] + more[1]
            flowing = [torch.bmm(down_HBGP.flatten(-2), self.own).add_(before[0]), *before[1:]]
            if starts_HTB is not None:
                flowing = [part.masked_fill_(starts_HTB[:, t, :, None], 0.0) for part in flowing]
            found.append(adjoints)
        return [torch.stack(part[::-1], dim=1) for part in zip(*found, strict=True)], flowing

    def gradients(self, adjoints: Sequence[Tensor]) -> list[Tensor]:
        """Of what was given, empty for what was not."""
        outputs = self.left if self.reset is None else [*self.left, self.reset]
        wanted = [x for x in self.given if x is not None]
        found = iter(torch.autograd.grad(outputs, wanted, adjoints))
        return [self.tokens.new_empty(0) if x is None else next(found) for x in self.given]


def _partials(part: Tensor, inputs: Sequence[Tensor]) -> list[tuple[Tensor, ...] | None]:
    """Of each input, the derivative by it of the channel that it is of, token by token; None where it is not read."""
    found = torch.autograd.grad(part.sum(), inputs, retain_graph=True, allow_unused=True)
    return [None if partial is None else partial.unbind(1) for partial in found]


def _pulled(
    partials: Sequence[Sequence[tuple[Tensor, ...] | None]], t: int, adjoints: Sequence[Tensor]
) -> list[Tensor]:
    """The adjoints of the inputs of a token's step from those of what it leaves: the number 0 where it is not read."""
    found: list[Any] = [0.0] * len(partials[0])
    for by_input, adjoint in zip(partials, adjoints, strict=True):
        for i, partial in enumerate(by_input):
            if partial is not None:
                wide = adjoint if partial[t].ndim == adjoint.ndim else adjoint[..., None, :]
                one = isinstance(found[i], float)
                found[i] = partial[t] * wide if one else torch.addcmul(found[i], partial[t], wide)
    return found


def _mapped(x_HTBP: Tensor, weight_HQP: Tensor) -> Tensor:
    """(H, T, B, Q), each block by its own map."""
    return (x_HTBP.flatten(1, 2) @ weight_HQP.mT).unflatten(1, x_HTBP.shape[1:3])
