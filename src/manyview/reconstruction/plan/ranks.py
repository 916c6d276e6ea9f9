"""Before several ranks share a scene: frames and bytes of a rank, what travels, and how long it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from ...attention.global_attention import DENSE
from ...attention.layout import TokenLayout
from ...distributed.frames import FrameSplit
from ...errors import MemoryLimitError, UsageError
from ...files.naming import counted
from ...models.run_options import RunOptions
from .device_model import DeviceModel, device_model
from .estimate import total_seconds
from .links import Link, likely_link
from .machine import precision_name
from .preflight import (
    EFFICIENCY,
    Request,
    format_duration,
    format_gib,
    largest,
    run_options_candidates,
)

# What a run may plan for of free memory (`Machine.usable_bytes`).
_USABLE = 0.9
_MOST_RANKS = 4096


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What a rank receives from the others in a pass, in bytes.

    The mean over ranks, exact for tensors of the frames and for those that are chosen among them: each rank
    gets what it does not have. `layers` is by global layer, `besides` what frames are chosen by and what the
    camera head needs.
    """

    layers: tuple[int, ...]
    besides: int = 0

    @property
    def total(self) -> int:
        return sum(self.layers) + self.besides


def traffic(request: Request, ranks: int) -> Traffic:
    """What each of `ranks` ranks with frames receives; in a ring it is as much as at once."""
    config, whole = request.config, request.layout
    others = (ranks - 1) / ranks
    exchanges = request.plan.exchange(whole, config.num_heads, config.dim)
    each = 2 * config.dim * request.dtype.itemsize
    layers = (round(others * (one.tokens * each + 4 * one.numbers)) for one in exchanges)
    features = whole.frames * config.dim * 4 if request.plan.needs_frame_features else 0
    cameras = 0.0
    if "camera" in request.heads:
        one_token = TokenLayout(whole.frames, 0, (1, 1), whole.reference_frame)
        seen = (request.plan.camera or DENSE).exchange(one_token, 1, 1).tokens
        cameras = seen * config.camera_memory_bytes
    return Traffic(tuple(layers), round(others * (features + cameras)))


@dataclasses.dataclass(frozen=True)
class RankPreflight:
    """What was chosen for a request over several ranks, and what to expect of it.

    Attributes:
        request: What is to be run, of the whole scene.
        ranks: Ranks that were asked for; `split` has those that get frames.
        split: Frames of each rank, as the first has it.
        options: Run options of every rank (without `ranks`).
        ring: Dense keys and values pass around in a ring, as those of all frames would not fit.
        peak_bytes: Of the rank with the most frames, beside the weights.
        free_bytes: What the rank with the least memory may allocate.
        received_per_layer: Bytes that a rank receives from the others in each global layer.
        received: Bytes that it receives in all.
        link: What connects the ranks.
        waiting_s: Seconds in which a rank waits for others.
        seconds: Of the pass with that; None where the speed of the device is unknown.
    """

    request: Request
    ranks: int
    split: FrameSplit
    options: RunOptions
    ring: bool
    peak_bytes: int
    free_bytes: int
    received_per_layer: tuple[int, ...]
    received: int
    link: Link
    waiting_s: float
    seconds: float | None

    @property
    def fits(self) -> bool:
        """Whether the memory of every rank is enough."""
        return self.peak_bytes <= _USABLE * self.free_bytes

    @property
    def waits_most(self) -> bool:
        """Whether more time goes into waiting for others than into computing."""
        return self.seconds is not None and self.waiting_s > self.seconds - self.waiting_s

    def notes(self) -> tuple[str, ...]:
        """What the user should know: ranks without frames, and more waiting than computing."""
        together, active = self.request.plan.frames_together(self.request.layout), self.split.ranks
        found = []
        if active < self.ranks:
            why = (
                f"{self.request.plan} merges in blocks of {counted(together, 'frame')}"
                if together > 1
                else f"there are {counted(self.request.views, 'view')}"
            )
            found.append(f"{why}: {active} of {self.ranks} ranks have frames")
        if self.waits_most:
            found.append(
                f"ranks are expected to wait longer for one another over {self.link.name} than they compute: "
                "fewer ranks are as good"
            )
        return tuple(found)

    def sentence(self) -> str:
        """One line for the user."""
        r, split = self.request, self.split
        frames = str(max(split.counts)) if len(set(split.counts)) == 1 else f"up to {max(split.counts)}"
        ring = " in a ring" if self.ring else ""
        time = ""
        if self.seconds is not None:
            time = f", about {format_duration(self.seconds)}"
            if split.ranks > 1:
                time += f", of which {format_duration(self.waiting_s)} waiting"
        travels = max(self.received_per_layer, default=0)
        return (
            f"{counted(r.views, 'view')} of {r.width}x{r.height} ({r.layout.tokens:,} tokens), {r.plan} "
            f"attention, {precision_name(r.dtype)} over {counted(split.ranks, 'rank')} with {frames} "
            f"views each: expected peak {format_gib(self.peak_bytes)} a rank of "
            f"{format_gib(self.free_bytes)} free, {format_gib(travels)} a layer from the others{ring} over "
            f"{self.link.said()}{time}"
        )


def preflight_ranks(
    request: Request,
    ranks_count: int,
    free_bytes: Sequence[int],
    link: Link | None = None,
    *,
    device: torch.device | None = None,
    rates: DeviceModel | None = None,
    flops_per_s: float | None = None,
) -> RankPreflight:
    """`expected_ranks`, which has to fit.

    Raises:
        UsageError: The plan cannot run over several ranks, or `free_bytes` are not those of the ranks.
        MemoryLimitError: Some rank has too little memory; names what would fit.
    """
    found = expected_ranks(
        request, ranks_count, free_bytes, link, device=device, rates=rates, flops_per_s=flops_per_s
    )
    if not found.fits:
        raise _too_little(request, ranks_count, found.free_bytes, device)
    return found


def expected_ranks(
    request: Request,
    ranks_count: int,
    free_bytes: Sequence[int],
    link: Link | None = None,
    *,
    device: torch.device | None = None,
    rates: DeviceModel | None = None,
    flops_per_s: float | None = None,
) -> RankPreflight:
    """The largest pieces that fit on every rank, and a ring only where nothing else does; else the smallest.

    Depends on its arguments alone, so that ranks that are given the same choose the same.

    Args:
        request: What is to be run, of the whole scene.
        ranks_count: Ranks that there are; those beyond the frames, or blocks of frames, get none.
        free_bytes: What each of them may allocate beside its weights. Ranks that share a memory share what is
            free of it.
        link: What connects them (None: what is likely between such devices of one host).
        device: Of a rank (None: CUDA, whose rates are then not asked for).
        rates: Of the device (None: those of `device`).
        flops_per_s: Of matrix products on a device without rates, as CPUs are.

    Raises:
        UsageError: The plan cannot run over several ranks, or `free_bytes` are not those of the ranks.
    """
    why_not = request.plan.why_not_distributed(request.layout) if ranks_count > 1 else None
    if why_not is not None:
        raise UsageError(why_not)
    if len(free_bytes) != ranks_count:
        raise UsageError(f"there are {ranks_count} ranks, but the free memory of {len(free_bytes)}")
    split = _split_of(request, ranks_count)
    free = min(free_bytes[: split.ranks])
    if rates is None and device is not None and device.type == "cuda":
        rates = device_model(device)
    link = link or likely_link(device or torch.device("cuda"), None if rates is None else rates.capability)
    moved, speed = traffic(request, split.ranks), _Speed.of(request, rates, flops_per_s, device)
    computing = None if speed is None else speed.computing(request, split.count)
    for ring in _ways(request, split):
        waiting = _waiting_seconds(request, split, moved, link, ring, speed)
        for options in run_options_candidates(request):
            found = RankPreflight(
                request, ranks_count, split, options, ring,
                request.peak_bytes(options, device, split=split, ring=ring), free, moved.layers, moved.total,
                link, waiting, None if computing is None else computing + waiting,
            )  # fmt: skip
            if found.fits:
                return found
    return found


def _split_of(request: Request, ranks: int) -> FrameSplit:
    """Frames of each rank, as the first has it, which has the most."""
    split = FrameSplit.of(request.views, ranks, 0, request.plan.frames_together(request.layout))
    assert split is not None
    return split


def _ways(request: Request, split: FrameSplit) -> tuple[bool, ...]:
    """Whether dense keys pass around in a ring: not, and then where that is possible."""
    return (False, True) if split.ranks > 1 and DENSE in request.plan.layers else (False,)


@dataclasses.dataclass(frozen=True)
class _Speed:
    """FLOP/s of a rank in matrix products and in attention; `rates` of its device, if they are known."""

    products: float
    attention: float
    rates: DeviceModel | None = None

    @classmethod
    def of(
        cls,
        request: Request,
        rates: DeviceModel | None,
        flops_per_s: float | None,
        device: torch.device | None,
    ) -> _Speed | None:
        """None where nothing is known."""
        if rates is not None:
            kind = precision_name(request.dtype)
            return cls(rates.products[kind], rates.attention[kind], rates)
        if flops_per_s is None:
            return None
        reached = flops_per_s * EFFICIENCY[device.type if device is not None else "cuda"]
        return cls(reached, reached)

    def computing(self, request: Request, own_frames: int) -> float:
        """Seconds of a pass of a rank with so many of the frames, without what it waits for."""
        if self.rates is not None:
            return total_seconds(request, self.rates, own_frames)
        return request.total_flops() * own_frames / request.views / self.products


def _waiting_seconds(
    request: Request, split: FrameSplit, moved: Traffic, link: Link, ring: bool, speed: _Speed | None
) -> float:
    """Seconds in which a rank waits for keys and values, or sums, of others.

    They travel while queries are projected; in a ring while the share before is attended to.
    """
    ranks, dim = split.ranks, request.config.dim
    if ranks == 1:
        return 0.0
    own_tokens = split.count * request.layout.tokens_per_frame
    projecting = 0.0 if speed is None else 2.0 * own_tokens * dim**2 / speed.products
    total = link.seconds(moved.besides, ranks)
    for layer, received in zip(request.plan.layers, moved.layers, strict=True):
        if not received:
            continue
        if ring and layer == DENSE:
            flops = layer.attention_flops(request.layout, dim, dim // request.config.num_heads)
            attending = (
                0.0 if speed is None else flops * split.count / request.views / ranks / speed.attention
            )
            step = link.latency_s + received / (ranks - 1) / link.bytes_per_s
            total += (ranks - 1) * max(0.0, step - attending)
        else:
            total += max(0.0, link.seconds(received, ranks) - projecting)
    return total


def _too_little(request: Request, ranks: int, free: int, device: torch.device | None) -> MemoryLimitError:
    """The error that names the memory needed, and what would fit."""

    def needed(views: int, count: int) -> int:
        """Bytes of a rank with the smallest pieces."""
        changed = dataclasses.replace(request, views=views)
        split = _split_of(changed, count)
        frugal = list(run_options_candidates(changed))[-1]
        return min(changed.peak_bytes(frugal, device, split=split, ring=r) for r in _ways(changed, split))

    def fits(views: int, count: int) -> bool:
        return needed(views, count) <= _USABLE * free

    ways = []
    most = min(_MOST_RANKS, request.views)
    if most > ranks and fits(request.views, most):
        fewer = largest(lambda count: not fits(request.views, count), ranks, most)
        ways.append(f"{(fewer or ranks) + 1} ranks")
    views = largest(lambda count: fits(count, ranks), 1, request.views - 1)
    if views:
        ways.append(f"--max-frames {views} (of {request.views} views)")
    ways.append("smaller images (--image-size), or another plan (--accel), with fewer keys")
    return MemoryLimitError(
        f"{counted(request.views, 'view')} of {request.width}x{request.height} over {counted(ranks, 'rank')} "
        f"need about {format_gib(needed(request.views, ranks))} a rank beside the weights, and "
        f"{format_gib(free)} are free on one of them. What would fit: {'; '.join(ways)}"
    )
