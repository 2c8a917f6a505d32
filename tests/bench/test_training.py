"""Training throughput: the models that are compared, and the ratios between them."""

import pytest
import torch
from torch import nn

from evo.bench.plain_gpt import PlainGPT
from evo.bench.training import ORGANISMS, PEER, Row, _models, _row


def test_the_same_gpt_has_the_peers_size():
    """Every organism is built, and the one that says it is the peer's shape has its parameters."""
    sizes = {name: sum(parameter.numel() for parameter in model.parameters()) for name, model in _models().items()}
    assert list(sizes) == [PEER, *ORGANISMS]
    assert sizes["evo, the same GPT"] == sizes[PEER]


def test_the_peer_reads_no_later_token():
    """Logits of a prefix do not change with what follows."""
    torch.manual_seed(0)
    model = PlainGPT(8, 1, 2, 6)
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6]])
    changed = torch.tensor([[1, 2, 3, 9, 9, 9]])
    logits, others = model(tokens), model(changed)
    assert torch.equal(logits[:, :3], others[:, :3])
    assert not torch.equal(logits[:, 3:], others[:, 3:])


def test_ratios_are_taken_round_by_round():
    """A round that was slow for both has the ratio of any other."""
    row = _row(
        "ours", nn.Linear(3, 2), speeds=[100.0, 10.0, 90.0], peer=[200.0, 20.0, 100.0], in_bf16=[150.0, 20.0, 90.0]
    )
    assert row == Row("ours", 8, 90.0, 0.5, 0.5, pytest.approx(0.9), 90.0, 1.5)  # pyright: ignore[reportArgumentType]
