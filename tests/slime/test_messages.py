"""Messages: who hears what, in which order; and what the memory makes of surprise and of the task."""

from __future__ import annotations

import pytest
import torch

from evo.api.slime import Bus, Config, Feedback, FlowState, Message, SlimeMoldEncoder, Trainer


def test_the_urgent_is_heard_first() -> None:
    """By priority, then in order; only by those who subscribed; the last message of a topic is its state."""
    bus, heard = Bus(), list[str]()
    bus.subscribe("a", lambda message: heard.append(f"{message.topic}{message.value:g}"))
    for topic, value, priority in (("a", 1.0, 0), ("a", 2.0, 0), ("b", 3.0, 9), ("a", 4.0, 5)):
        bus.publish(Message(topic, value, priority=priority))
    assert heard == []
    assert bus.deliver() == 4
    assert heard == ["a4", "a1", "a2"]
    assert (bus.state["a"].value, bus.state["b"].value) == (2.0, 3.0)


def test_answers_are_delivered_and_endless_talk_is_an_error() -> None:
    """What receivers publish is heard in the same delivery; two that answer each other for ever are stopped."""
    bus, heard = Bus(), list[float]()
    bus.subscribe("question", lambda message: bus.publish(Message("answer", message.value + 1)))
    bus.subscribe("answer", lambda message: heard.append(message.value))
    bus.publish(Message("question", 1.0))
    assert bus.deliver() == 2
    assert heard == [2.0]
    bus.subscribe("answer", lambda message: bus.publish(Message("question", message.value)))
    bus.publish(Message("question", 1.0))
    with pytest.raises(RuntimeError, match="without end"):
        bus.deliver()


def encoder() -> SlimeMoldEncoder:
    """A small one."""
    return SlimeMoldEncoder(12, 16, 4, 3)


def remembered(feedback: Feedback | None, scale: float) -> torch.Tensor:
    """What tubes hold after a call, and another `scale` times as large."""
    x = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(0))
    model, state = encoder(), FlowState()
    for size in (1.0, scale):
        _, state = model.flow(size * x, state, feedback)
    recalled = state.tubes.recall()
    assert recalled is not None
    return recalled.detach()


def test_surprise_makes_memories_firm() -> None:
    """The encoder publishes how far it is from what it recalled; the memory then weighs what came by that."""
    feedback = Feedback(Bus())
    with_surprise, without = remembered(feedback, 5.0), remembered(None, 5.0)
    assert feedback.bus.state["surprise"].sender == "encoder"
    assert feedback.weight > 2.0
    assert float(with_surprise.norm()) > float(without.norm())
    calm = Feedback(Bus())
    remembered(calm, 1.0)
    assert calm.weight < feedback.weight


def test_a_rising_loss_makes_memories_short() -> None:
    """The trainer tells each loss; one above the average lowers the decay, and old outputs count less."""
    feedback = Feedback(Bus())
    texts = ["slime " * 60]
    config = Config.model_validate({"archive": {"num_centroids": 0}})
    Trainer(encoder(), config, context=16, feedback=feedback).train(texts, epochs=2, learning_rate=1e-2)
    assert feedback.bus.state["loss"].sender == "trainer"
    before = remembered(Feedback(Bus()), 5.0)
    feedback.average = 1.0
    feedback.tell("loss", 3.0, "test")
    assert feedback.decay == pytest.approx(0.3)
    feedback.most = 1.0  # surprise has no say here
    assert not torch.equal(remembered(feedback, 5.0), before)
    feedback.tell("loss", 0.5, "test")
    assert feedback.decay == 0.9
