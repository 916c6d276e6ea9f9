"""Stages of a pass on a card: the host runs ahead of it, and no time is lost or booked twice."""

from __future__ import annotations

import pytest
import torch

from manyview.reconstruction.run.progress import StageClock


@pytest.fixture
def card(monkeypatch):
    """Events of a card that takes a second for each, as soon as somebody waits."""
    waited: list[float] = []

    class Event:
        made = 0

        def __init__(self, **_: bool) -> None:
            pass

        def record(self, stream: object) -> None:
            self.time = Event.made * 1000.0
            Event.made += 1

        def synchronize(self) -> None:
            waited.append(self.time)

        def elapsed_time(self, later: Event) -> float:
            return later.time - self.time

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    return waited


def test_the_host_is_two_marks_ahead_of_a_card(card):
    told: list[tuple[int, int]] = []
    clock = StageClock(torch.device("cuda", 0), 5, lambda stage, done, total: told.append((done, total)))
    for stage in ("encoder", "frame layers", "global layers", "frame layers"):
        clock.mark(stage)
    assert card == [1000.0, 2000.0] and told == [(1, 5), (2, 5)]
    clock.wait()
    assert clock.done == 4 and told[-1] == (4, 5)
    clock.mark("depth head")
    assert clock.seconds == {
        "forward: encoder": 1.0,
        "forward: frame layers": 2.0,
        "forward: global layers": 1.0,
        "forward: depth head": 1.0,
    }
    assert clock.done == 5


def test_elsewhere_every_mark_is_booked_at_once():
    clock = StageClock(torch.device("cpu"), 2)
    clock.mark("encoder")
    assert clock.done == 1 and list(clock.seconds) == ["forward: encoder"]
