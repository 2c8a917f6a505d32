"""A bus between components: who publishes does not know who listens; the urgent is heard first."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

MOST = 10_000
"""Messages of one delivery: a loop of receivers that answer one another for ever is a mistake."""


@dataclass(frozen=True)
class Message:
    """A number under a topic. priority: higher ones are delivered first, equals in the order of their sending."""

    topic: str
    value: float
    sender: str = ""
    priority: int = 0


Receiver = Callable[[Message], None]


class Bus:
    """Subscriptions by topic, a queue, and the last message of each topic as the state that is known of it."""

    def __init__(self) -> None:
        self._receivers: dict[str, list[Receiver]] = {}
        self._queue: list[tuple[int, int, Message]] = []
        self._sent = 0
        self.state: dict[str, Message] = {}

    def subscribe(self, topic: str, receiver: Receiver) -> None:
        """Have a receiver called with each message of a topic, after those that subscribed before it."""
        self._receivers.setdefault(topic, []).append(receiver)

    def publish(self, message: Message) -> None:
        """Put a message into the queue; nobody hears it before `deliver`."""
        heapq.heappush(self._queue, (-message.priority, self._sent, message))
        self._sent += 1

    def deliver(self) -> int:
        """Call the receivers of all messages, of those too that they publish meanwhile; how many there were.

        Raises RuntimeError after 10,000.
        """
        for count in range(MOST):
            if not self._queue:
                return count
            _, _, message = heapq.heappop(self._queue)
            self.state[message.topic] = message
            for receiver in self._receivers.get(message.topic, ()):
                receiver(message)
        raise RuntimeError(f"more than {MOST} messages in one delivery: receivers answer one another without end")
