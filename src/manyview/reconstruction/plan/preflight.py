"""Before the heavy part: what will run, how much memory and time it should take, and whether it fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import torch

from ...attention.dense import AllKeys, SameFrameKeys
from ...attention.global_attention import DENSE
from ...attention.layout import TokenLayout
from ...attention.plan import Plan, PlanCost
from ...distributed.frames import FrameSplit
from ...errors import MemoryLimitError
from ...files.naming import counted
from ...models.flops import forward_flops
from ...models.network import NetworkConfig
from ...models.run_options import RunOptions
from .device_model import device_model
from .estimate import stage_seconds, total_seconds
from .footprint import estimate_peak_bytes
from .machine import Machine, multiplies_bf16, precision_name

# Share of a large matrix product's speed that a whole pass reaches.
EFFICIENCY = {"cpu": 0.5, "cuda": 0.4, "mps": 0.4}
# On a CPU: pages of PyTorch's code that a first pass touches, oneDNN's kernels, what malloc keeps.
_FIRST_USE, _FIRST_USE_BF16 = 40 << 20, 68 << 20


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be run: a network, images of one size, a plan, heads and a precision.

    `known`: what is given beside the images ("poses", "intrinsics", "depth"). `kernels`,
    `linear_precision`, `head_dtype`, `channels_last`, `reference_view` and `camera_from_rays`:
    see `RunOptions`.
    """

    config: NetworkConfig
    views: int
    height: int
    width: int
    plan: Plan
    heads: tuple[str, ...]
    dtype: torch.dtype
    known: tuple[str, ...] = ()
    kernels: str = "plain"
    linear_precision: str = "plain"
    head_dtype: torch.dtype | None = None
    channels_last: bool | None = None
    reference_view: str | None = None
    camera_from_rays: bool = False

    @property
    def layout(self) -> TokenLayout:
        patch = self.config.patch_size
        grid = (self.height // patch, self.width // patch)
        return TokenLayout(self.views, self.config.special_tokens, grid, self.config.reference_frame)

    def peak_bytes(
        self,
        options: RunOptions,
        device: torch.device | None = None,
        encoder_only: bool = False,
        shared: bool = False,
        split: FrameSplit | None = None,
        ring: bool = False,
    ) -> int:
        """Expected bytes beside the weights: those of tensors, and on a CPU those that the process grows by.

        The process is compared with itself when the weights are loaded and nothing has run. `encoder_only`:
        of the encoder's part alone; `shared`: several passes share converted weights; `split`: of a rank that
        has some of the frames (None: all); `ring`: dense keys pass around among ranks.
        """
        on_cpu = device is not None and device.type == "cpu"
        if on_cpu and options.channels_last is None:  # heads run in the order of tokens there
            options = dataclasses.replace(options, channels_last=True)
        products = on_cpu and self.dtype == torch.bfloat16 and multiplies_bf16(torch.device("cpu"))
        whole, own, over_ranks = self.layout, self.layout, split is not None and split.ranks > 1
        if split is not None:
            own = whole.part(split)
        # Reduced keys and values stand beside those they were taken from, those of all ranks beside a rank's.
        plain = (AllKeys(), SameFrameKeys())
        reduced = tuple(layer for layer in self.plan.layers if layer.keys not in plain)
        gathered = over_ranks and any(
            layer.keys == AllKeys() and not (ring and layer == DENSE) for layer in self.plan.layers
        )
        beside, joined, working = 0, 0, 0
        shares = [layer.keys.count(whole) / own.tokens for layer in reduced]
        share = max(shares) if len(reduced) == len(self.plan.layers) else 1.0
        sizes = (self.config.dim, self.config.num_heads, self.dtype.itemsize)
        if reduced and not encoder_only:
            beside = Plan(reduced).cost(whole, self.config.dim, self.dtype.itemsize).key_value_bytes
        if over_ranks:
            share = max([share, *shares])
        if gathered:
            share = max(share, whole.frames / own.frames)
            beside = 2 * whole.tokens * self.config.dim * self.dtype.itemsize
        if over_ranks:
            beside, joined = 0, beside + self._bytes_of_ranks(own, ring)
        if on_cpu:
            parts = {part for layer in self.plan.layers for part in (layer.queries, layer.keys, layer.fill)}
            working = max(part.working_bytes(whole, *sizes) for part in parts)
            working = working * own.frames // whole.frames
        peak = estimate_peak_bytes(
            self.config,
            own,
            options,
            self.dtype.itemsize,
            self.known,
            products=products,
            keys=share,
            working=working,
            joined=joined,
            encoder_only=encoder_only,
            shared=shared,
        )
        first_use = (_FIRST_USE_BF16 if products else _FIRST_USE) if on_cpu else 0
        return peak + beside + first_use

    def _bytes_of_ranks(self, own: TokenLayout, ring: bool) -> int:
        """What a rank holds of the scene beside keys and values, and of keys that pass around."""
        whole, dim, heads = self.layout, self.config.dim, self.config.num_heads
        features = 2 * whole.frames * dim * 4 if self.plan.needs_frame_features else 0
        # Numbers by which tokens of the scene are ranked, and their order.
        ranked = max(exchange.numbers for exchange in self.plan.exchange(whole, heads, dim))
        passing = 0
        if ring:  # those that arrive beside those that are read, and sums in float32 with their weights
            passing = own.tokens * (4 * dim * self.dtype.itemsize + 4 * dim + 8 * heads)
        return features + int(8 * ranked) + passing

    def flops_by_stage(self) -> dict[str, float]:
        """Operations of each stage of the pass."""
        return forward_flops(self.config, self.layout, self.plan, self.heads)

    def attention_cost(self) -> PlanCost:
        """What the plan's global attention costs; `extra_flops` is in no stage of `flops_by_stage`."""
        head_dim = self.config.dim // self.config.num_heads
        return self.plan.cost(self.layout, self.config.dim, self.dtype.itemsize, head_dim)

    def total_flops(self) -> float:
        """Operations of the whole pass, with what the plan spends on choosing or merging tokens."""
        return sum(self.flops_by_stage().values()) + self.attention_cost().extra_flops

    def seconds(self, machine: Machine, flops_per_s: float | None) -> float | None:
        """Expected time of the whole pass: on a card by its rates, else at this speed of matrix products.

        None if that is unknown.
        """
        rates = device_model(machine.device) if machine.device.type == "cuda" else None
        if rates is not None:
            return total_seconds(self, rates)
        if flops_per_s is None:
            return None
        return self.total_flops() / (flops_per_s * EFFICIENCY[machine.device.type])


@dataclasses.dataclass(frozen=True)
class Preflight:
    """What was chosen for a request, and what to expect of it.

    `chunk`: so many views are attached to solved anchors at a time, and results go to the disk as they are
    ready, which takes `disk_bytes` (None: one pass over all views). `hint`: how to spend less time.
    """

    request: Request
    machine: Machine
    options: RunOptions
    peak_bytes: int
    seconds: float | None
    chunk: int | None = None
    disk_bytes: int = 0
    hint: str | None = None

    def stage_seconds(self) -> dict[str, float]:
        """Expected seconds by stage, which add up to `seconds`; empty for a device of unknown rates."""
        rates = device_model(self.machine.device)
        if rates is None or self.seconds is None:
            return {}
        stages = stage_seconds(self.request, rates)
        return {stage: self.seconds * each / sum(stages.values()) for stage, each in stages.items()}

    def sentence(self) -> str:
        """One line for the user."""
        r = self.request
        time = "" if self.seconds is None else f", about {format_duration(self.seconds)}"
        rates = device_model(self.machine.device) if self.machine.device.type == "cuda" else None
        if time and rates is not None:
            time += f" expected ({rates.said()})"
        chunks = f", {self.chunk} at a time, {format_gib(self.disk_bytes)} on disk" if self.chunk else ""
        return (
            f"{counted(r.views, 'view')} of {r.width}x{r.height} "
            f"({r.layout.tokens:,} tokens), {r.plan} attention, "
            f"{precision_name(r.dtype)} on {self.machine.name}: expected peak {format_gib(self.peak_bytes)} "
            f"of {format_gib(self.machine.free_bytes)} free{chunks}{time}"
            + ("" if self.hint is None else f"; {self.hint}")
        )


def preflight(request: Request, machine: Machine, flops_per_s: float | None = None) -> Preflight:
    """Choose the largest chunks that fit. Raises MemoryLimitError, with settings that would, if none fits."""
    for options in run_options_candidates(request):
        peak = request.peak_bytes(options, machine.device)
        if peak <= machine.usable_bytes:
            return Preflight(request, machine, options, peak, request.seconds(machine, flops_per_s))
    raise memory_limit_error(request, machine)


def run_options_candidates(request: Request) -> Iterator[RunOptions]:
    """Run options from fast to frugal: fewer frames and tokens at a time, never another result."""
    frame_tokens = request.layout.tokens_per_frame
    seen: set[tuple[int, int, int]] = set()
    for tokens in (32768, 8192, 2048, 512):
        frames = max(1, tokens // frame_tokens)
        chunks = (frames, max(tokens, frame_tokens), min(8, frames))
        if chunks not in seen:
            seen.add(chunks)
            yield _options(request, chunks)
    if request.dtype.itemsize < 4 or request.linear_precision != "plain":
        yield dataclasses.replace(_options(request, chunks), keep_weights=False)


def _options(request: Request, chunks: tuple[int, int, int]) -> RunOptions:
    same = (
        "heads", "kernels", "linear_precision", "head_dtype", "channels_last", "reference_view",
        "camera_from_rays",
    )  # fmt: skip
    return RunOptions(request.dtype, *chunks, **{name: getattr(request, name) for name in same})


def memory_limit_error(request: Request, machine: Machine) -> MemoryLimitError:
    """The error that names the memory needed, and the cheapest settings that would fit."""
    frugal = list(run_options_candidates(request))[-1]
    ways = alternatives(request, machine)
    advice = "; ".join(ways) if ways else "not even one view fits: use a machine with more memory"
    return MemoryLimitError(
        f"{request.views} views of {request.width}x{request.height} need about "
        f"{format_gib(request.peak_bytes(frugal, machine.device))} beside the weights, and "
        f"{machine.name} has {format_gib(machine.free_bytes)} free. What would fit: {advice}"
    )


def largest_input(request: Request, machine: Machine) -> int:
    """How many views of the request's size fit, with the smallest chunks (0: not even one)."""
    return largest(lambda n: _fits(dataclasses.replace(request, views=n), machine), 1, 10**6) or 0


def _fits(request: Request, machine: Machine) -> bool:
    frugal = list(run_options_candidates(request))[-1]
    return request.peak_bytes(frugal, machine.device) <= machine.usable_bytes


def alternatives(request: Request, machine: Machine) -> list[str]:
    """The three cheapest changes, each of which makes the request fit; fewer if there are no more.

    Cheapest are those that lose no view and no pixel; then fewer views or smaller images, then both
    together or with less precision.
    """
    ways = []

    def most_views(changed: Request) -> int:
        fits = largest(lambda n: _fits(dataclasses.replace(changed, views=n), machine), 1, request.views - 1)
        return fits or 0

    def offer(text: str, changed: Request) -> None:
        if _fits(changed, machine):
            ways.append(text)

    low = dataclasses.replace(request, dtype=torch.bfloat16)
    if "points" in request.heads:
        heads = tuple(head for head in request.heads if head != "points")
        offer("without --point-head", dataclasses.replace(request, heads=heads))
    if request.dtype == torch.float32:
        offer("--precision bf16", low)
    patch, longer = request.config.patch_size, _longer_patches(request)
    views = most_views(request)
    if views:
        ways.append(f"--max-frames {views} (of {request.views} views)")
    side = largest(lambda n: _fits(_resized(request, n), machine), 4, longer - 1)
    if side is not None:
        ways.append(f"--image-size {side * patch} (instead of {longer * patch})")
    if request.dtype == torch.float32 and most_views(low) > views:
        ways.append(f"--precision bf16 --max-frames {most_views(low)}")
    middle = max(4, 3 * longer // 4)
    if middle < longer and most_views(_resized(request, middle)) > views:
        ways.append(f"--image-size {middle * patch} --max-frames {most_views(_resized(request, middle))}")
    return ways[:3]


def _longer_patches(request: Request) -> int:
    return max(request.height, request.width) // request.config.patch_size


def _resized(request: Request, longer_patches: int) -> Request:
    """The request with its longer side that many patches long, aspect kept."""
    patch, before = request.config.patch_size, _longer_patches(request)
    rows, columns = (
        max(1, round(side // patch * longer_patches / before)) for side in (request.height, request.width)
    )
    return dataclasses.replace(request, height=rows * patch, width=columns * patch)


def largest(fits: Callable[[int], bool], low: int, high: int) -> int | None:
    """Largest n in low..high that fits, if any; what fits at n fits below."""
    if high < low or not fits(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def format_gib(count: float) -> str:
    """Bytes as text, in MiB or GiB."""
    if count < 2**30:
        return f"{count / 2**20:.0f} MiB"
    return f"{count / 2**30:.1f} GiB"


def format_duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 0.1):.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
