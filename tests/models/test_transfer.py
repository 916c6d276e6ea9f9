"""Downloads in pieces, with copies that arrive as late as they may, and buffers that are used again."""

from __future__ import annotations

import contextlib
import threading

import pytest
import torch
from torch import Tensor

from manyview.models.dense_head import DenseHead
from manyview.models.feature_taps import run_dense_head
from manyview.models.part_configs import DenseHeadConfig
from manyview.models.run_options import RunOptions
from manyview.models.transfer import in_slices_to_host, to_device, to_host
from tests.attention.fake_cuda import CARD
from tests.attention.fake_cuda import card as fake_card


class LateCopies:
    """Copies that happen when somebody waits for them; until then a buffer holds nonsense."""

    def __init__(self) -> None:
        self.buffers = self.most = self.under_way = 0
        self._lock = threading.Lock()

    def buffer(self, like: Tensor) -> Tensor:
        self.buffers += 1
        return torch.empty(like.shape, dtype=like.dtype)

    def start(self, pieces: list[Tensor], buffers: list[Tensor]) -> LateCopies.Event:
        for buffer in buffers:
            buffer.fill_(float("nan"))
        with self._lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        return self.Event(self, pieces, buffers)

    class Event:
        def __init__(self, copies: LateCopies, pieces: list[Tensor], buffers: list[Tensor]) -> None:
            self.copies, self.pieces, self.buffers = copies, pieces, buffers

        def synchronize(self) -> None:
            with torch.inference_mode():
                for piece, buffer in zip(self.pieces, self.buffers, strict=True):
                    buffer.copy_(piece)
            with self.copies._lock:
                self.copies.under_way -= 1


@pytest.mark.parametrize("size", [None, 1, 3, 4, 11, 50])
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_everything_has_arrived(size, mode):
    copies = LateCopies()
    x, y = torch.randn(11, 5, 7), torch.randn(11, 2)
    with mode():
        got = in_slices_to_host(lambda part: (x[part] * 2, y[part].clone()), 11, size, copies)
    assert torch.equal(got[0], x * 2) and torch.equal(got[1], y)
    assert copies.buffers <= 2 * 3 and copies.most <= 4 and copies.under_way == 0


def test_other_orders_in_memory_arrive_right():
    x = torch.randn(6, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    (got,) = in_slices_to_host(lambda part: [x[part]], 6, 4, LateCopies())
    assert torch.equal(got, x) and got.is_contiguous()


def test_an_error_of_the_device_is_raised_and_leaves_no_thread():
    class Broken(LateCopies):
        def start(self, pieces, buffers):
            event = super().start(pieces, buffers)
            event.synchronize = lambda: 1 / 0
            return event

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        in_slices_to_host(lambda part: [torch.zeros(part.stop - part.start)], 9, 1, Broken())
    with pytest.raises(MemoryError):
        in_slices_to_host(_no_memory, 9, 1, LateCopies())
    assert threading.active_count() == before


def _no_memory(part: slice) -> list[Tensor]:
    if part.start:
        raise MemoryError
    return [torch.zeros(part.stop - part.start)]


def test_nothing_is_copied_on_a_cpu():
    x = torch.randn(4, 3)
    assert to_host(x) is x and to_device(x, torch.device("cpu")) is x


def test_maps_of_a_head_stay_below_32_bit_offsets(monkeypatch):
    """Of channels-last maps PyTorch resizes at most 2^31 elements at once on CUDA: 82 frames of 518x392."""
    with torch.device("meta"):
        head = DenseHead(2048, DenseHeadConfig(), 2)
        taps = [torch.empty(100, 28 * 37, width) for width in DenseHeadConfig().out_channels]
    ran: list[int] = []
    plain = head.forward

    def counted(taps, *rest):
        taps = list(taps)
        ran.append(len(taps[0]))
        return plain(iter(taps), *rest)

    monkeypatch.setattr(head, "forward", counted)
    shape = (1, 100, 3, 392, 518)
    options = RunOptions(head_frames_per_chunk=None, channels_last=True)
    with torch.inference_mode():
        depth, _ = run_dense_head(head, taps, (28, 37), shape, options)
    assert ran == [82, 18] and depth.shape == (1, 100, 392, 518, 1)
    assert max(ran) * head.largest_map((28, 37), (392, 518)) < 2**31


@pytest.fixture
def card(monkeypatch):
    """Streams and events of a card, for fake tensors: what is called in which order."""
    told: list[str] = []

    class Stream:
        def __init__(self, device: torch.device) -> None:
            assert device.type == "cuda"

        def wait_stream(self, other: object) -> None:
            told.append("wait")

    class Event:
        def __init__(self, **_: bool) -> None:
            pass

        def record(self, stream: object) -> None:
            told.append("record")

        def synchronize(self) -> None:
            told.append("synchronise")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda x, stream: told.append("keep"))
    for name in ("empty", "empty_like"):
        plain = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, _f=plain, pin_memory=False, **k: _f(*a, **k))
    return told


def test_ways_to_and_from_a_card_are_walked_with_fake_tensors(card):
    with fake_card():
        images = torch.empty(9, 3, 64, 128, dtype=torch.uint8).permute(0, 2, 3, 1)
        there = to_device(images, CARD)
        assert there.device == CARD and there.stride() == images.stride()
        assert card == ["synchronise", "record"]
        card.clear()
        back = to_host(there)
    assert back.device.type == "cpu" and back.shape == images.shape
    assert card == ["wait", "keep", "record", "synchronise"]
