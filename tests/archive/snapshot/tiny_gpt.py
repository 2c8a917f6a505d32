"""A plain hand-written GPT and its brief training: the delta of the slow snapshot test. Not a test itself."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evo import __file__ as package

CORPUS = Path(package).parent / "data" / "corpora" / "shakespeare.txt"
CONTEXT = 128


def text() -> Tensor:
    """(T,) int64 bytes: the packaged corpus, or the standard library's sources where it is missing."""
    if CORPUS.exists():
        data = CORPUS.read_bytes()
    else:
        library = Path(np.__file__).parent
        data = b"".join(path.read_bytes() for path in sorted(library.rglob("*.py")))[:1_000_000]
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).long()


class Block(nn.Module):
    """Pre-norm causal attention and a GELU feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        parts = self.qkv(self.norm_1(x_BTD)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        x_BTD = x_BTD + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2))
        return x_BTD + self.down(F.gelu(self.up(self.norm_2(x_BTD))))


class TinyGPT(nn.Module):
    """Byte-level GPT with a tied readout: width 128 and 4 layers give 0.84 M parameters."""

    def __init__(self, width: int = 128, layers: int = 4, heads: int = 4, tied: bool = True) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(256, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.readout = nn.LayerNorm(width), nn.Linear(width, 256, bias=False)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        self.tied = tied
        if tied:
            self.readout.weight = self.token.weight

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """(B, T) bytes to (B, T, 256) logits."""
        x_BTD = self.token(tokens_BT) + self.place.weight[: tokens_BT.shape[1]]
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return self.readout(self.norm(x_BTD))


def loss(model: nn.Module, batch_BT: Tensor) -> Tensor:
    """Mean next-byte loss in bits per byte."""
    logits = model(batch_BT[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), batch_BT[:, 1:].flatten()) / np.log(2.0)


def batches(data: Tensor, count: int, size: int, seed: int) -> Tensor:
    """(count, size, CONTEXT + 1) windows at random places."""
    starts = torch.from_numpy(np.random.default_rng(seed).integers(len(data) - CONTEXT - 1, size=(count, size)))
    return data[starts[..., None] + torch.arange(CONTEXT + 1)]


def train(model: nn.Module, data: Tensor, steps: int, lr: float, size: int = 16) -> None:
    """AdamW with a tenth of warm-up and a linear fall."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    for step, batch in enumerate(batches(data, steps, size, seed=0)):
        for group in optimizer.param_groups:
            group["lr"] = lr * min((step + 1) / (0.1 * steps), 1.1 - step / steps)
        optimizer.zero_grad()
        loss(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the parameters by name; a tied one once."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def evaluator(model: nn.Module, data: Tensor) -> Callable[[dict[str, Tensor]], list[float]]:
    """Held-out bits per byte as a function of weights; the model's own are overwritten."""
    held_out = batches(data, 1, 64, seed=1)[0]

    @torch.no_grad()
    def evaluate(given: dict[str, Tensor]) -> list[float]:
        model.load_state_dict(given, strict=False)
        return [float(loss(model, held_out))]

    return evaluate


@torch.no_grad()
def moments(model: nn.Module, data: Tensor) -> dict[str, Tensor]:
    """Input second moments of every linear layer and token counts of the embedding table."""
    found: dict[str, Tensor] = {}
    batch = batches(data, 1, 16, seed=2)[0]

    def watch(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            rows = inputs[0].flatten(0, -2).double()
            found[name] = rows.T @ rows / len(rows)

        return hook

    handles = [
        module.register_forward_pre_hook(watch(f"{name}.weight"))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    loss(model, batch)
    for handle in handles:
        handle.remove()
    found["token.weight"] = torch.bincount(batch.flatten(), minlength=256).double()
    found["place.weight"] = torch.ones(CONTEXT)
    return found
