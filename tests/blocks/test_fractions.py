"""A stream in fractions: against the package of hyper-connections, written out, and as it starts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import document, moved, organism, stage

from evo.blocks.flow import Flow
from evo.blocks.streams.fractions.module import Fractions

ATTENTION = {"kind": "attention", "heads": 2}
WIDTH, COUNT = 16, 4
STREAMS = {"kind": "fractions", "count": COUNT, "eps": 1e-30}


def connection(**streams: Any) -> Fractions:
    """Of the first sublayer of a layer, with every weight moved."""
    found = moved(organism([stage("a", ATTENTION, streams={**STREAMS, **streams})]))
    part = found.get_submodule("stages.a.0.mixer_streams")
    assert isinstance(part, Fractions)
    return part


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def test_what_a_sublayer_reads_and_what_stays_are_those_of_the_package() -> None:
    """Values and gradients of `hyper-connections` with one stream and as many fractions, dynamic form."""
    theirs_of = pytest.importorskip("hyper_connections").HyperConnections
    ours, theirs = connection(), theirs_of(1, dim=WIDTH, layer_index=0, num_fracs=COUNT).double()

    def paired(of: torch.Tensor) -> torch.Tensor:
        """Columns for what is read and for what stays in turn, as theirs are."""
        return of.unflatten(-1, (2, COUNT)).transpose(-1, -2).flatten(-2)

    assert ours.changes is not None
    assert ours.scales is not None
    with torch.no_grad():
        theirs.static_alpha.copy_(paired(torch.cat((ours.reads, ours.mix), 1)))
        theirs.dynamic_alpha_fn.copy_(paired(ours.changes[:-1].T))
        theirs.dynamic_alpha_scale.copy_(ours.scales[0])
    x, given = noise(2, 5, WIDTH), noise(2, 5, WIDTH)
    read, kept, _ = ours.read(x.unflatten(-1, (COUNT, -1)), Flow())
    wanted, stays, _ = theirs.width_connection(given)
    torch.testing.assert_close(read, wanted)
    torch.testing.assert_close(kept.flatten(-2), stays)
    found = torch.autograd.grad((read.square() + kept.flatten(-2)).sum(), [x, ours.reads, ours.mix])
    theirs_g = torch.autograd.grad((wanted.square() + stays).sum(), [given, theirs.static_alpha])
    torch.testing.assert_close(found[0], theirs_g[0])
    torch.testing.assert_close(paired(torch.cat(found[1:], 1)), theirs_g[1])


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_sublayer_writes_to_each_fraction_by_a_number_of_its_own(dynamic: bool) -> None:
    """H_m <- sum_n A_nm H_n + b_m f(sum_n Y_n H_n)_m, fraction by fraction: values and gradients of every weight."""
    ours, x, y = connection(dynamic=dynamic), noise(2, 5, WIDTH), noise(2, 5, WIDTH, seed=1)
    parts = x.chunk(COUNT, -1)
    w = dict(ours.named_parameters())

    def share(name: str, n: int, m: int, row: int, scale: int) -> torch.Tensor:
        own = w[name][n] if name == "writes" else w[name][n, m]
        if not dynamic:
            return own
        unit = parts[n] / parts[n].square().mean(-1, keepdim=True).sqrt()
        return own + w["scales"][scale] * torch.tanh(unit @ w["changes"][row])[..., None]

    read = [sum(share("reads", n, m, m, 0) * parts[n] for n in range(COUNT)) for m in range(COUNT)]
    made = torch.cat([part + 0 * x[..., :4] for part in read], -1).tanh() + y
    wanted = torch.cat(
        [
            sum(share("mix", n, m, COUNT + m, 0) * parts[n] for n in range(COUNT))
            + share("writes", m, m, 2 * COUNT, 1) * made.chunk(COUNT, -1)[m]
            for m in range(COUNT)
        ],
        -1,
    )
    h, kept, gains = ours.read(x.unflatten(-1, (COUNT, -1)), Flow())
    got = ours.written(kept, gains, h.tanh() + y, Flow()).flatten(-2)
    torch.testing.assert_close(got, wanted)
    cotangent = noise(2, 5, WIDTH, seed=3).detach()
    inputs = [x, *w.values()]
    pairs = (torch.autograd.grad((value * cotangent).sum(), inputs) for value in (got, wanted))
    torch.testing.assert_close(*pairs)


def test_new_ones_change_nothing() -> None:
    """At first the layers compute what they do on a stream that is whole."""
    tokens = torch.randint(256, (2, 9), generator=torch.Generator().manual_seed(0))
    cut, plain = organism([stage("a", ATTENTION, streams=STREAMS)]), organism([stage("a", ATTENTION)])
    plain.load_state_dict({path: w for path, w in cut.state_dict().items() if "_streams." not in path})
    torch.testing.assert_close(cut(tokens), plain(tokens))


def test_fractions_divide_the_width() -> None:
    """EVO300, with the numbers that do."""
    with pytest.raises(AssertionError, match="EVO300"):
        document([stage("a", ATTENTION, streams={"kind": "fractions", "count": 3})])
