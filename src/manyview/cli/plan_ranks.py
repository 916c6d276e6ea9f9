"""`manyview plan --ranks`: what a scene over several ranks would take."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ..errors import UsageError
from .console import say, say_notes

if TYPE_CHECKING:
    from ..models.network import Network
    from ..models.run_options import RunOptions
    from ..reconstruction.plan.simulate import RankDevice, RankRow
    from ..reconstruction.run.options import ReconstructOptions

_MOST_RANKS = 1 << 16


@dataclasses.dataclass(frozen=True)
class RanksChoice:
    """Ranks that share a scene: with INPUT, from the headers of its files; without, simulated."""

    ranks: tuple[int, ...] = ()
    """How many ranks share the scene, a row each (--ranks 1 2 4 8); nothing is decoded."""
    frames: tuple[int, ...] = ()
    """With --ranks: numbers of frames; default: those of INPUT."""
    size: tuple[int, int] | None = None
    """With --ranks: WIDTH HEIGHT of the network's images; default: that of INPUT, else of 4:3 images."""
    on: str | None = None
    """With --ranks: a card that is not here (NVIDIA H100, NVIDIA H200); default: --device."""
    link: str | None = None
    """With --ranks: what connects ranks (nvlink4, pcie5, pcie4, infiniband-400, ethernet-100, ethernet-10,
    loopback); default: what is likely within a host."""
    memory_gib: float | None = None
    """With --on: memory of the card; default: that of the card sold."""

    def check(self) -> None:
        """UsageError for numbers that cannot be, and for what says nothing without --ranks."""
        given = {name: value for name, value in vars(self).items() if value not in ((), None)}
        if given and not self.ranks:
            raise UsageError(
                f"--{next(iter(given)).replace('_', '-')} belongs to --ranks, as in --ranks 1 2 4 8"
            )
        for name, values in (("ranks", self.ranks), ("frames", self.frames), ("size", self.size or ())):
            if min(values, default=1) < 1:
                raise UsageError(f"--{name} counts from 1, not {min(values)}")
        if max(self.ranks, default=1) > _MOST_RANKS:
            raise UsageError(f"--ranks goes up to {_MOST_RANKS:,}, not {max(self.ranks):,}")
        if self.memory_gib is not None and (self.on is None or not self.memory_gib > 0):
            raise UsageError("--memory-gib is the memory of the card of --on, above 0")


def show_ranks(
    choice: RanksChoice, inputs: str | list[str] | None, model: Network, options: ReconstructOptions
) -> None:
    """Print the table."""
    from ..attention.plan import Plan
    from ..bench.table import aligned
    from ..models.families import suited_plans
    from ..reconstruction.plan.links import likely_link, link_named
    from ..reconstruction.plan.machine import precision_name
    from ..reconstruction.plan.preflight import Request, format_gib
    from ..reconstruction.plan.simulate import simulate

    config = model.config
    if model.why_not_distributed is not None:
        raise UsageError(f"several ranks cannot share a scene with {model.name}: {model.why_not_distributed}")
    accel = options.accel or suited_plans(model).trained_for or "dense"
    if accel == "auto":
        raise UsageError("--accel auto depends on what was read: with --ranks, name a plan")
    heads = ("camera", "depth", *(("points",) if options.point_head else ()))
    config.require_heads(heads)
    frames, (height, width) = _frames_and_size(choice, inputs, model, options)
    config.layout(frames[0], height, width)  # refuses sides that are no whole patches
    device, run = _on(choice, options)
    assert run.dtype is not None
    request = Request(
        config, frames[0], height, width, Plan.parse(accel, config.depth), heads, run.dtype, (), run.kernels,
        options.linear_precision, run.head_dtype, run.channels_last,
    )  # fmt: skip
    rates = device.rates
    capability = None if rates is None else rates.capability
    link = link_named(choice.link) if choice.link else likely_link(device.device, capability)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    rows = list(simulate(request, frames, choice.ranks, device, link, weights))
    held = f"{format_gib(device.free_bytes)} {'between them' if device.shared else 'each'}"
    say(
        f"{model.name}, {width}x{height}, {request.plan} attention, {precision_name(request.dtype)}, on "
        f"{device.name} with {held}, of which weights take {format_gib(weights)}, over {link.said()}"
        + ("" if rates is None else f"; time {rates.said()}")
    )
    head = ["frames", "ranks", "a rank", "memory a rank", "fits", "received a layer", "in all", "waiting"]
    say("\n".join(aligned([[*head, "time"], *(_cells(row) for row in rows)])))
    say_notes(dict.fromkeys(note for row in rows for note in row.notes()))


def _cells(row: RankRow) -> list[str]:
    from ..reconstruction.plan.preflight import format_duration, format_gib

    one = row.expected
    first = [f"{row.request.views:,}", str(row.ranks)]
    if one is None:
        return [*first, "-", "-", "refused", *4 * ["-"]]
    waiting, time = "-", "-"
    if one.seconds is not None:
        time = format_duration(one.seconds)
        waiting = format_duration(one.waiting_s) if one.waiting_s >= 0.1 else f"{1e3 * one.waiting_s:.2g} ms"
    fits = ("yes, in a ring" if one.ring else "yes") if one.fits else "no"
    sizes = (max(one.received_per_layer), one.received)
    memory = format_gib(one.peak_bytes + row.weights_bytes)
    return [*first, f"{one.split.count:,}", memory, fits, *map(format_gib, sizes), waiting, time]


def _frames_and_size(
    choice: RanksChoice, inputs: str | list[str] | None, model: Network, options: ReconstructOptions
) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Numbers of frames, and (height, width) of the network's images."""
    from ..reconstruction.inputs.find import find_inputs
    from ..reconstruction.inputs.header import expected_views
    from ..reconstruction.inputs.network_image import Sizing, network_transform

    config = model.config
    policy = config.size_policy if options.size_policy == "auto" else options.size_policy
    limit = config.pixel_limit if options.image_size is None else None
    sizing = Sizing(policy, options.image_size or config.image_size, config.patch_size, limit)
    frames, size = choice.frames, None if choice.size is None else choice.size[::-1]
    if inputs is not None:
        found = find_inputs(inputs, options.inputs)
        expected = expected_views(found, sizing)
        if expected is None:
            raise UsageError(f"no header of '{found.label}' can be read: give --frames and --size")
        if not frames and found.kind == "video":
            raise UsageError("how many frames a video gives is known when it is read: give --frames")
        frames, size = frames or (expected.views,), size or (expected.height, expected.width)
    if not frames:
        raise UsageError("give an input, or --frames, as in --ranks 1 2 4 --frames 1000")
    if size is None:
        transform = network_transform((640, 480), 1, sizing)
        size = (transform.network_height, transform.network_width)
    return frames, size


def _on(choice: RanksChoice, options: ReconstructOptions) -> tuple[RankDevice, RunOptions]:
    """What each rank runs on, and precision and kernels that suit it."""
    import torch

    from ..reconstruction.plan.defaults import default_run_options
    from ..reconstruction.plan.device_model import device_model
    from ..reconstruction.plan.machine import inspect_machine, pick_device, pick_dtype
    from ..reconstruction.plan.simulate import RankDevice, card_named, run_options_on

    limit = None if options.memory_limit_gib is None else int(options.memory_limit_gib * 2**30)
    how = (options.kernels, options.head_precision)
    if choice.on is not None:
        card = card_named(choice.on)
        assert card.memory_bytes is not None
        free = int(card.memory_bytes if choice.memory_gib is None else choice.memory_gib * 2**30)
        device = RankDevice(card.name, torch.device("cuda"), min(free, limit or free), card)
        return device, run_options_on(card, options.precision, *how)
    here = pick_device(options.device)
    machine = inspect_machine(here, limit)
    device = RankDevice(machine.name, here, machine.free_bytes, device_model(here), here.type != "cuda")
    return device, default_run_options(here, pick_dtype(here, options.precision), *how)
