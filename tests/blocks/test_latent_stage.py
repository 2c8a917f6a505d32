"""The latent stage is the Free Transformer's: its training loss is x-transformers', its scores come from the prior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import document, organism

from evo.blocks.flow import Flow
from evo.blocks.stages.latent.module import Latent
from evo.compiler.build import build
from evo.compiler.organism import Organism, OrganismState
from evo.compiler.resolve import resolve
from evo.tasks.base import open_task
from evo.training.causality import find_leak
from evo.training.loop import Trainer

RMS = {"kind": "rms", "eps": 1e-12}
ROPE = {"kind": "rope", "pairs": "neighbours", "dims": 4}
NEAR = {"kind": "attention", "heads": 2}
FFN = {"kind": "gated", "hidden": 32}
BITS = 3


def free(**code: Any) -> dict[str, Any]:
    """The organism: one layer below, the code, and two layers above, of which the first is told it."""
    return {
        "norm": RMS,
        "position": ROPE,
        "readout": {"tie": False},
        "stages": [
            {"name": "lower", "mix": NEAR, "ffn": FFN},
            {"name": "code", "kind": "latent", "heads": 2, "bits": BITS, "ffn": FFN, **code},
            {"name": "told", "from": "lower", "kv_add": "code", "mix": NEAR, "ffn": FFN},
            {"name": "upper", "mix": NEAR, "ffn": FFN},
        ],
    }


def model(**code: Any) -> Organism:
    """It in float64."""
    return organism(**free(**code)).double()


def tokens(rows: int = 2, length: int = 12) -> torch.Tensor:
    return torch.randint(256, (rows, length), generator=torch.Generator().manual_seed(3))


LAYERS = {
    "lower.0": ("decoder_head", 0),
    "code.encoder": ("encoder", 0),
    "told.0": ("decoder_tail", 0),
    "upper.0": ("decoder_tail", 1),
}


def theirs(ours: Organism, unit: float = 1.0) -> dict[str, torch.Tensor]:
    """Our weights under x-transformers' names, whose gains are the rest to `unit`."""
    w = {path: parameter.detach().float() for path, parameter in ours.named_parameters()}
    w |= {path: weight - unit for path, weight in w.items() if path.endswith("norm.gain")}
    found = {
        "query_token_for_latents": w["stages.code.query"],
        "token_emb.weight": w["embedding.weight"],
        "token_unembed.weight": w["readout.weight"],
        "encoder.final_norm.g": w["stages.code.encoder_norm.gain"],
        "to_latent_bit_logits.weight": w["stages.code.encode"],
        "from_latent_to_condition.weight": w["stages.code.codes"],
        "decoder_tail.final_norm.g": w["final_norm.gain"],
    }
    for path, (stack, number) in LAYERS.items():
        at, here = f"{stack}.layers.{{}}.", f"stages.{path}."
        mixer, ffn = at.format(2 * number), at.format(2 * number + 1)
        found |= {f"{mixer}1.to_{name}.weight": w[f"{here}mixer.{name}"] for name in "qkv"}
        found[f"{mixer}1.to_out.weight"] = w[f"{here}mixer.o"]
        found[f"{mixer}0.0.g"], found[f"{ffn}0.0.g"] = w[f"{here}mixer_norm.gain"], w[f"{here}ffn_norm.gain"]
        found[f"{ffn}1.ff.0.proj.weight"] = torch.cat((w[f"{here}ffn.up"], w[f"{here}ffn.gate"]))
        found[f"{ffn}1.ff.0.proj.bias"] = torch.zeros(64)
        found[f"{ffn}1.ff.2.weight"] = w[f"{here}ffn.down"]
    return found


def moved(whole: Organism) -> Organism:
    """With weights so large that every part tells."""
    with torch.no_grad():
        for index, parameter in enumerate(whole.parameters()):
            generator = torch.Generator().manual_seed(index)
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return whole


@pytest.mark.parametrize("free_bits", [0.0, 1.0])
def test_it_trains_as_the_free_transformer(monkeypatch: pytest.MonkeyPatch, free_bits: float) -> None:
    """Both losses and the gradient of every weight are x-transformers' where the bits are drawn alike."""
    oracle = pytest.importorskip("x_transformers.free_transformer")
    ours = moved(model(free_bits=free_bits))
    sizes = {"max_seq_len": 32, "dec_head_depth": 1, "dec_tail_depth": 2, "attn_dim_head": 8, "heads": 2}
    net = oracle.FreeTransformer(
        num_tokens=256, dim=16, latent_bits=BITS, kl_loss_threshold=free_bits * oracle.NAT, ff_glu=True, ff_swish=True,
        ff_no_bias=True, ff_mult=2, verbose=False, **sizes,
    )  # fmt: skip
    missing = net.load_state_dict(theirs(ours), strict=False)
    assert all(name.endswith("inv_freq") for name in missing.missing_keys)
    assert not missing.unexpected_keys
    drawn_BTN = torch.rand(2, 11, BITS, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(oracle.torch, "rand_like", lambda logits: drawn_BTN)
    monkeypatch.setattr("evo.blocks.stages.latent.module.uniform", lambda seed, salt, at: drawn_BTN)
    rows = tokens()
    total, (text, kl) = net(rows, return_all_losses=True)
    total.backward()
    losses = ours.losses(rows[:, :-1], rows[:, 1:])
    losses.total.backward()
    torch.testing.assert_close(losses.task.float(), text, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses.auxiliary["kl"].float(), kl, rtol=1e-4, atol=1e-5)
    assert kl > 0.01
    grads = {name: parameter.grad for name, parameter in net.named_parameters() if "proj" not in name}
    for name, expected in theirs_of_gradients(ours).items():
        if name in grads:
            torch.testing.assert_close(expected, grads[name], rtol=1e-3, atol=1e-5, msg=name)


def theirs_of_gradients(ours: Organism) -> dict[str, torch.Tensor]:
    """Our gradients under x-transformers' names."""
    with torch.no_grad():
        for parameter in ours.parameters():
            assert parameter.grad is not None
            parameter.copy_(parameter.grad)
    return theirs(ours, unit=0.0)


def test_what_is_scored_comes_from_the_prior_and_sees_nothing_ahead() -> None:
    """Scoring passes do not leak and do not ask the encoder; a pass of training does both."""
    whole = moved(model())
    assert find_leak(whole) is None
    rows = tokens(1)
    changed = rows.clone()
    changed[:, 8] += 1
    early = slice(0, 8)
    torch.testing.assert_close(whole(rows)[:, early], whole(changed)[:, early], rtol=0, atol=1e-12)
    seed = torch.tensor(5)
    one, two = (whole(text, Flow(seed=seed))[:, early] for text in (rows, changed))
    assert (one - two).abs().max() > 1e-3
    with torch.no_grad():
        before = whole(rows)
        whole.stages["code"].get_parameter("encode").mul_(-3.0)
        assert torch.equal(whole(rows), before)


def test_decoding_draws_what_the_whole_draws() -> None:
    """Token by token equals the whole, for each sample from the prior; samples differ, rows do not."""
    whole, rows = moved(model()), tokens()
    for sample in (0, 7):
        state, parts = OrganismState(), []
        for part in rows.split([5, 1, 6], dim=1):
            logits, state = whole.extend(part, state, sample)
            parts.append(logits)
        torch.testing.assert_close(torch.cat(parts, 1), whole(rows, Flow(sample=sample)))
    assert (whole(rows) - whole(rows, Flow(sample=7))).abs().max() > 1e-3
    same = rows[:1].expand(3, -1)
    assert torch.equal(whole(same)[0], whole(same)[2])


def test_the_prior_is_uniform() -> None:
    """Over many positions every code comes about equally often, in no visible order."""
    stage = model().stages["code"]
    assert isinstance(stage, Latent)
    x = torch.zeros(1, 8000, 16, dtype=torch.float64)
    z_TC = stage._prior(x, Flow(sample=3))[0]  # pyright: ignore[reportPrivateUsage]
    counts_C = z_TC.sum(0)
    assert float(((counts_C - 1000) ** 2 / 1000).sum()) < 24.3  # chi squared of 7 degrees at 0.001
    pairs = (z_TC[:-1].argmax(-1) * 8 + z_TC[1:].argmax(-1)).bincount(minlength=64)
    assert float(((pairs - 125) ** 2 / 125).sum()) < 104  # of 63 degrees at 0.001


def test_an_encoder_that_says_nothing_costs_nothing() -> None:
    """Even bits are free whatever free_bits is, and sure ones cost all of them but the free."""
    whole = model(free_bits=0.5)
    stage = whole.stages["code"]
    rows = tokens()
    with torch.no_grad():
        stage.get_parameter("encode").zero_()
    assert float(whole.losses(rows, rows).auxiliary["kl"].detach()) == 0.0
    sure = stage.get_parameter("encode")
    with torch.no_grad():
        sure.copy_(F.normalize(torch.ones_like(sure)) * 1e6)
    assert float(whole.losses(rows, rows).auxiliary["kl"].detach()) == pytest.approx(2.5 * 0.6931, rel=0.02)


def test_draws_follow_the_step() -> None:
    """A step repeated draws the same bits; another step draws others; the loss is listed beside the task's."""
    data = free()
    found = document(**data)
    trainers = [
        Trainer(
            build(resolve(found.organism), 0), open_task(found.train.task, Path()), found.train, steps=3, mode="eager"
        )
        for _ in range(2)
    ]
    first, second = (trainer.losses(1) for trainer in trainers)
    assert torch.equal(first.task, second.task)
    assert set(first.auxiliary) == {"kl"} == set(trainers[0].model.plan.losses)
    batch = tokens()
    model_ = trainers[0].model
    one, two = (model_.losses(batch, batch, flow=Flow(seed=torch.tensor(seed))).task for seed in (1, 2))
    assert not torch.equal(one, two)


def test_it_may_stand_alone() -> None:
    """An organism of no layer but the encoder's is valid, and its first weights are finite."""
    found = organism([{"name": "code", "kind": "latent", "heads": 2}])
    assert all(bool(parameter.isfinite().all()) for parameter in found.parameters())
