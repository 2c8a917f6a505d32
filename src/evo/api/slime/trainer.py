"""Training an encoder on bytes, with its pool alive: the original's `Trainer`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.api.slime.config import Config
from evo.api.slime.encoder import SlimeMoldEncoder
from evo.base.memory import is_out_of_memory
from evo.base.streams import Stream
from evo.blocks.companion import Surroundings
from evo.compiler.build import drawn
from evo.dsl.coolings import LinearCooling
from evo.dsl.plan import Weight, linear, table
from evo.optimizers.adamw.spec import AdamWSpec
from evo.slime.feedback import LOSS, Feedback
from evo.slime.lifecycle import Lifecycle
from evo.slime.observability import MetricsCollector
from evo.slime.spec import AnnealedLifeSpec
from evo.training.loop import DivergedError
from evo.training.optimizer import Optimizer

BYTES, MASK, SYMBOLS = 256, 256, 257
MASKED = 0.15
"""The share of bytes that are hidden and to be told where the encoder sees both ways (Devlin et al. 2019)."""


class ByteModel(nn.Module):
    """An encoder between a table of byte vectors and a readout."""

    def __init__(self, encoder: SlimeMoldEncoder, seed: int) -> None:
        super().__init__()
        self.weights: dict[str, Weight] = {
            "table": table("table", SYMBOLS, encoder.sensory_dim, 0.02),
            "readout": linear("readout", BYTES, encoder.latent_dim),
            **{f"encoder.{path}": weight for path, weight in encoder.weights.items()},
        }
        self.table, self.readout = (nn.Parameter(torch.empty(self.weights[n].shape)) for n in ("table", "readout"))
        with torch.no_grad():
            for name in ("table", "readout"):
                self.get_parameter(name).copy_(drawn(self.weights[name], Stream(seed).child("init", name)))
        self.encoder = encoder
        own = next(encoder.parameters())
        self.to(own.device, own.dtype)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, T, 256) for bytes."""
        return F.linear(self.encoder(F.embedding(tokens_BT, self.table)), self.readout)


class Trainer:
    """Trains an encoder on texts: the next byte where it is causal, hidden bytes where it is not.

    The pool lives meanwhile, by the settings; the same seed gives the same bytes. What happens is recorded in the
    encoder's metrics, or in some of its own: `pool_size`, `archive_coverage`, `component_births`, `component_deaths`,
    `loss`. Feedback, if there is any, is told each loss.
    """

    def __init__(
        self, model: SlimeMoldEncoder, config: Config | None = None, context: int = 64, feedback: Feedback | None = None
    ) -> None:
        self.encoder, self.config, self.context = model, config or Config(), context
        self.model = ByteModel(model, self.config.training.seed)
        self.metrics = MetricsCollector() if model.metrics is None else model.metrics
        self.feedback = feedback
        self.life: Lifecycle | None = None

    def train(
        self, dataset: Sequence[str], epochs: int = 1, batch_size: int = 8, learning_rate: float = 1e-4
    ) -> list[float]:
        """The mean loss of each epoch, in nats a byte.

        Raises:
            ValueError: texts of fewer bytes than a window of `context` and one more, or a batch of nothing.
            DivergedError: a loss is not finite; the weights are those of the step before.
            RuntimeError: a step finds no memory, even after the worst pseudopod was let go.
        """
        if batch_size < 1 or self.context < 1:
            raise ValueError(f"a batch is of 1 window of 1 byte at least, found {batch_size} of {self.context}")
        windows_NT = self._windows(dataset)
        count = math.ceil(len(windows_NT) / batch_size)
        optimizer = Optimizer(
            dict(self.model.named_parameters()), self.model.weights, AdamWSpec(lr=learning_rate), clip=1.0
        )
        stream = Stream(self.config.training.seed).child("texts")
        batches = [
            batch
            for epoch in range(epochs)
            for batch in windows_NT[torch.from_numpy(stream.child(epoch).numpy().permutation(len(windows_NT)))].split(
                batch_size
            )
        ]
        self.life = Lifecycle(self._spec(), self._around(optimizer, batches))
        losses = [self._step(step, batch_NT, optimizer) for step, batch_NT in enumerate(batches)]
        return [sum(losses[first : first + count]) / count for first in range(0, len(losses), count)]

    def _step(self, step: int, windows_BT: Tensor, optimizer: Optimizer) -> float:
        assert self.life is not None
        before = self.life.figures()
        loss = self._differentiated(step, windows_BT)
        if not math.isfinite(loss):
            raise DivergedError(f"the loss became {float(loss)} at step {step + 1}")
        self.life.note(loss)
        optimizer.step(1.0)
        if self.life.is_due(step + 1):
            self.life.between(step + 1)
        figures = self.life.figures()
        self.metrics.record_all({name: figures[name] for name in ("pool_size", "archive_coverage") if name in figures})
        for name in ("births", "deaths"):
            self.metrics.record(f"component_{name}", figures[name] - before[name])
        self.metrics.record("loss", float(loss))
        if self.feedback is not None:
            self.feedback.tell(LOSS, float(loss), "trainer")
        return float(loss)

    def _differentiated(self, step: int, windows_BT: Tensor) -> Tensor:
        """The step's loss, with all gradients in place; once more where memory ran out and something was let go of.

        The second try comes when the error is gone, which holds all that the first had made.
        """
        assert self.life is not None
        try:
            return self._backward(step, windows_BT)
        except (RuntimeError, MemoryError) as error:
            if not (is_out_of_memory(error) and self.life.relieve(step)):
                raise
        return self._backward(step, windows_BT)

    def _backward(self, step: int, windows_BT: Tensor) -> Tensor:
        self.model.zero_grad(set_to_none=True)
        loss = self._loss(windows_BT, Stream(self.config.training.seed).child("hidden", step))
        loss.backward()
        return loss.detach()

    def _loss(self, windows_BT: Tensor, stream: Stream) -> Tensor:
        windows_BT = windows_BT.to(self.model.table.device)
        if self.encoder.causal:
            logits_BTV = self.model(windows_BT[:, :-1])
            return F.cross_entropy(logits_BTV.flatten(0, 1), windows_BT[:, 1:].flatten())
        hidden_BT = torch.from_numpy(stream.numpy().random(windows_BT.shape) < MASKED).to(windows_BT.device)
        hidden_BT[0, 0] = True
        logits_BTV = self.model(windows_BT.masked_fill(hidden_BT, MASK))
        return F.cross_entropy(logits_BTV[hidden_BT], windows_BT[hidden_BT])

    def _windows(self, dataset: Sequence[str]) -> Tensor:
        """All texts one after the other in windows (N, context + 1), int64; the rest is left out."""
        text, size = bytearray("\n\n".join(dataset).encode()), self.context + 1
        if len(text) < size:
            raise ValueError(f"{len(text)} bytes of text are less than one window of {size}")
        joined = torch.frombuffer(text, dtype=torch.uint8).long()
        return joined[: len(joined) // size * size].view(-1, size)

    def _spec(self) -> AnnealedLifeSpec:
        pool, training = self.config.pool, self.config.training
        return AnnealedLifeSpec(
            every=training.medium_every,
            cull_every=training.slow_every,
            warmup=training.warmup_steps,
            gentle=training.gentle_steps,
            least=pool.min_size,
            most=pool.max_size,
            cull=pool.cull_fraction,
            cooling=LinearCooling(start=training.initial_temp),
            cells=self.config.archive.num_centroids,
            budget_mb=pool.memory_budget_mb if pool.enforce_memory_budget else None,
        )

    def _around(self, optimizer: Optimizer, batches: Sequence[Tensor]) -> Surroundings:
        def row(step: int) -> Tensor:
            return batches[min(step, len(batches) - 1)][:1, :-1]

        return Surroundings(
            model=self.model,
            states=optimizer.states,
            row=row,
            draw=lambda path, stream: drawn(self.model.weights[path], stream),
            steps=len(batches),
            stream=Stream(self.config.training.seed).child("companion"),
        )
