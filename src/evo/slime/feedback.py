"""Feedback loops of an encoder's memory: surprise says how firmly something is kept, the task how long.

Surprise is what Titans store by (Behrouz et al. 2501.00663): how far what came is from what was remembered.
"""

from __future__ import annotations

from evo.slime.messages import Bus, Message

SURPRISE, LOSS = "surprise", "loss"


class Feedback:
    """What the messages of a bus have made of an encoder's tubes so far.

    weight: what is stored next counts 1 + surprise times, `most` at most. decay: of the tubes, `base` while the loss
    falls; where it rises above its average over about `horizon` messages, what is remembered is of the past, and the
    decay is `base` over the ratio.
    """

    def __init__(self, bus: Bus, base: float = 0.9, most: float = 4.0, horizon: int = 10) -> None:
        self.bus, self.base, self.most, self.horizon = bus, base, most, horizon
        self.weight, self.decay = 1.0, base
        self.average: float | None = None
        bus.subscribe(SURPRISE, self._on_surprise)
        bus.subscribe(LOSS, self._on_loss)

    def tell(self, topic: str, value: float, sender: str) -> None:
        """Publish a number and have it heard at once."""
        self.bus.publish(Message(topic, value, sender))
        self.bus.deliver()

    def _on_surprise(self, message: Message) -> None:
        self.weight = min(1.0 + max(message.value, 0.0), self.most)

    def _on_loss(self, message: Message) -> None:
        if self.average is None:
            self.average = message.value
        ratio = message.value / self.average if self.average > 0 else 1.0
        self.decay = self.base / max(ratio, 1.0)
        self.average += (message.value - self.average) / self.horizon
