"""What numbers of frames and ranks would take, without weights, images or ranks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ...errors import UsageError
from ...models.run_options import RunOptions
from .device_model import DeviceModel, known_devices
from .links import Link
from .machine import PRECISIONS
from .preflight import Request, largest
from .ranks import RankPreflight, expected_ranks


@dataclasses.dataclass(frozen=True)
class RankDevice:
    """What every rank runs on.

    Attributes:
        name: Of the device.
        device: Its type.
        free_bytes: What it has for weights and a pass.
        rates: How fast it is (None: unknown).
        shared: Ranks are processes of one machine, which share its memory and its cores.
    """

    name: str
    device: torch.device
    free_bytes: int
    rates: DeviceModel | None
    shared: bool = False

    def of(self, ranks: int) -> RankDevice:
        """What each of so many ranks has of it."""
        if not self.shared:
            return self
        rates = None if self.rates is None else self.rates.scaled(1 / ranks, 1 / ranks)
        return dataclasses.replace(self, free_bytes=self.free_bytes // ranks, rates=rates)


def card_named(name: str) -> DeviceModel:
    """The card of `devices.json` of that name, as "NVIDIA H100" or "h100".

    Raises:
        UsageError: There is none; names those that there are.
    """
    cards = {one.name: one for one in known_devices().values() if one.memory_bytes is not None}
    for full, card in cards.items():
        if name.lower() in (full.lower(), full.lower().removeprefix("nvidia ")):
            return card
    raise UsageError(f"there are no rates of a card {name!r}: choose from {', '.join(cards)}")


def run_options_on(
    card: DeviceModel, precision: str = "auto", kernels: str = "auto", head_precision: str = "auto"
) -> RunOptions:
    """`default_run_options` on a card that is not here, with fused norms where `kernels` may be chosen."""
    if precision not in ("auto", *PRECISIONS):
        raise UsageError(f"unknown precision {precision!r}: expected auto, {', '.join(PRECISIONS)}")
    multiplies = (card.capability or (0, 0)) >= (8, 0)
    dtype = PRECISIONS[precision if precision != "auto" else "bf16" if multiplies else "fp16"]
    if head_precision == "auto":
        head_precision = "bf16" if dtype.itemsize == 2 and multiplies else "fp32"
    head_dtype = None if head_precision == "fp32" else PRECISIONS[head_precision]
    return RunOptions(
        dtype,
        kernels="norms" if kernels == "auto" else kernels,
        head_dtype=head_dtype,
        channels_last=None if head_dtype is None else True,
    )


@dataclasses.dataclass(frozen=True)
class RankRow:
    """One number of frames over one number of ranks.

    Attributes:
        request: What would run.
        ranks: Ranks that there are.
        weights_bytes: Of the weights, which every rank has.
        expected: What it takes; None where the plan cannot run over several ranks.
        refused: Why it cannot.
        waits_from: Fewest ranks that wait longer for one another than they compute (None: not up to `most`).
        most: Ranks up to which that was looked for.
    """

    request: Request
    ranks: int
    weights_bytes: int
    expected: RankPreflight | None
    refused: str | None = None
    waits_from: int | None = None
    most: int = 0

    def notes(self) -> Iterator[str]:
        """Why the plan is refused, which ranks have no frames, and where waiting is most of the time."""
        if self.expected is None:
            yield f"{self.refused}"
            return
        if self.expected.split.ranks < self.ranks:
            yield self.expected.notes()[0]
        if self.waits_from is not None:
            yield (
                f"{self.request.views:,} frames: from {self.waits_from} ranks on they wait longer for one "
                "another than they compute"
            )
        elif self.expected.seconds is not None:
            yield f"{self.request.views:,} frames: up to {self.most} ranks compute longer than they wait"

    def to_json(self) -> dict[str, Any]:
        """JSON types."""
        row: dict[str, Any] = {
            "plan": str(self.request.plan), "frames": self.request.views, "ranks": self.ranks,
        }  # fmt: skip
        one = self.expected
        if one is None:
            return {**row, "refused": self.refused}
        return {
            **row,
            "ranks_with_frames": one.split.ranks,
            "frames_per_rank": one.split.count,
            "bytes_per_rank": one.peak_bytes + self.weights_bytes,
            "fits": one.fits,
            "ring": one.ring,
            "received_per_layer": max(one.received_per_layer),
            "received": one.received,
            "waiting_s": one.waiting_s,
            "seconds": one.seconds,
            "waits_from": self.waits_from,
        }


def simulate(
    request: Request,
    frames: Sequence[int],
    ranks: Sequence[int],
    device: RankDevice,
    link: Link,
    weights_bytes: int = 0,
    most: int = 64,
) -> Iterator[RankRow]:
    """A row for each number of `frames` over each number of `ranks`, whatever `request` says of its views.

    `most`: up to so many ranks, or as many as there are in `ranks`, the one from which they mostly wait for
    one another is looked for.
    """
    most = max(most, *ranks)
    for views in frames:
        one = dataclasses.replace(request, views=views)
        refused = one.plan.why_not_distributed(one.layout)
        waits_from = None
        if refused is None:
            waits_from = _waits_from(one, device, link, most)
        for count in ranks:
            if refused is not None and count > 1:
                yield RankRow(one, count, weights_bytes, None, refused)
            else:
                found = _over(one, count, device, link, weights_bytes)
                yield RankRow(one, count, weights_bytes, found, None, waits_from, most)


def _waits_from(request: Request, device: RankDevice, link: Link, most: int) -> int | None:
    """Fewest ranks that mostly wait; None where none up to `most` do."""
    calm = largest(lambda ranks: not _over(request, ranks, device, link, 0).waits_most, 1, most)
    return None if calm == most else (calm or 0) + 1


def _over(request: Request, ranks: int, device: RankDevice, link: Link, weights_bytes: int) -> RankPreflight:
    each = device.of(ranks)
    free = max(0, each.free_bytes - weights_bytes)
    return expected_ranks(request, ranks, [free] * ranks, link, device=each.device, rates=each.rates)
