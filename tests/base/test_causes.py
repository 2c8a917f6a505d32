"""Causes of failures: the first that went wrong, in a line."""

import pytest

from evo.base.causes import first_cause


def failing() -> None:
    """A capture in which the host looks, and which then cannot be ended."""
    try:
        raise ValueError("the host looked\nat the device")
    except ValueError:
        raise RuntimeError("the capture was not ended")  # noqa: B904 - what is handled stays its context


def test_the_first_of_several_errors_is_told() -> None:
    """An error raised while another is handled hides it; without a text its name is told."""
    with pytest.raises(RuntimeError) as failed:
        failing()
    assert first_cause(failed.value) == "the host looked"
    assert first_cause(NotImplementedError()) == "NotImplementedError"
