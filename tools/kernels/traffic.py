"""Dispatches, bytes and FLOPs of a pass by stage, counted on the meta device: `tools.kernels.traffic`.

`python -m tools.kernels.traffic PLAN ...` counts any number of frames of networks of full size anywhere.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
import tyro
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from manyview.attention.plan import Plan
from manyview.bench.live_bytes import LiveBytes
from manyview.errors import UsageError
from manyview.models.families import empty_network, find_model
from manyview.models.run_options import RunOptions
from tools.command import run_command
from tools.kernels.parity import say

TRUNK = ("encoder", "frame layers", "global layers")
_PRODUCTS = ("mm", "convolution", "attention")  # in names of matrix products, convolutions and attention
_NOTHING_READ = ("copy_", "fill_", "zero_", "full", "zeros", "ones", "empty")
_CHOSEN_READ = ("index", "index_select", "gather", "embedding")  # of the first input what the output holds
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclasses.dataclass
class Traffic:
    """What a stage does. A tensor that an operation reads or writes counts once for it; views count nothing.

    `product_bytes` are those of matrix products, convolutions and attention (without what these read again),
    `elementwise_bytes` those of all other operations. `peak_bytes`: live tensors that the pass made.
    `operations`: bytes by operation.
    """

    dispatches: int = 0
    elementwise_bytes: int = 0
    product_bytes: int = 0
    flops: int = 0
    peak_bytes: int = 0
    operations: dict[str, int] = dataclasses.field(default_factory=dict)

    def add(self, other: Traffic) -> None:
        """Count what another part of the stage does."""
        for name in ("dispatches", "elementwise_bytes", "product_bytes", "flops"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        for name, moved in other.operations.items():
            self.operations[name] = self.operations.get(name, 0) + moved


class TrafficCounter(TorchDispatchMode):
    """Counts operations while active, by stage; a pass's recorder too, whose marks end a stage's part."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: dict[str, Traffic] = {}
        self._now = Traffic()
        self._live = LiveBytes()

    def __enter__(self) -> TrafficCounter:  # type: ignore[override]
        self._live.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._live.__exit__(*error)

    def mark(self, stage: str) -> None:
        """What was counted since the last mark belongs to this stage."""
        self._now.peak_bytes = self._live.peak
        self.stages.setdefault(stage, Traffic()).add(self._now)
        self._now, self._live.peak = Traffic(), self._live.live

    def trunk(self) -> Traffic:
        """Encoder, frame and global layers together."""
        total = Traffic()
        for name in TRUNK:
            total.add(self.stages.get(name, Traffic()))
        return total

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        moved = moved_bytes(func, args, kwargs, result)
        if moved is None:
            return result
        name, now = func.name(), self._now
        now.operations[name] = now.operations.get(name, 0) + moved
        now.dispatches += 1
        if is_product(func):
            now.product_bytes += moved
            now.flops += product_flops(func, args, kwargs, result)
        else:
            now.elementwise_bytes += moved
        return result


def product_flops(func: Any, args: Any, kwargs: Any, result: Any) -> int:
    """By PyTorch's formulas, which know no names of products in place or with an activation."""
    name = func._schema.name.split("::")[1]
    known = "addmm" if name in ("addmm_", "_addmm_activation") else name
    formula = flop_registry.get(getattr(torch.ops.aten, known))
    chosen = kwargs if known == name else {}
    return 0 if formula is None else formula(*args, **chosen, out_val=result)


def is_product(func: Any) -> bool:
    """Whether an operation is a matrix product, a convolution or attention."""
    return func.namespace == "aten" and any(part in func.name() for part in _PRODUCTS)


def moved_bytes(func: Any, args: Any, kwargs: Any, result: Any) -> int | None:
    """Bytes that an operation reads and writes; None where it only makes a view or room.

    An input that is changed in place is read and written. Inputs called out, as those of the operators here,
    are written alone.
    """
    name = func._schema.name.split("::")[1]
    given = list(_arguments(func, args, kwargs))
    inputs = {_place(tensor) for _, tensor, _ in given}
    made = [one for one in _tensors(result) if _place(one) not in inputs]
    changed = any(written for _, _, written in given)
    if not changed and (not made or name.startswith(("empty", "new_empty"))):
        return None
    written = sum(_size(one) for one in made) + sum(_size(one) for _, one, is_written in given if is_written)
    unread = name in _NOTHING_READ
    reads = {
        _view(tensor): _size(tensor)
        for label, tensor, is_written in given
        if not (is_written and (unread or label.startswith("out")))
    }
    if name.startswith("new_") or name.endswith("_like"):
        reads = {}  # a shape alone
    if name in _CHOSEN_READ and given:
        reads[_view(given[0][1])] = min(_size(given[0][1]), sum(_size(one) for one in made))
    copied = 0
    if name == "native_layer_norm" and not given[0][1].is_contiguous():
        copied = 2 * _size(given[0][1])  # on CUDA it lays its input out in order first
    return sum(reads.values()) + written + copied


def _arguments(func: Any, args: Any, kwargs: Any) -> Iterator[tuple[str, Tensor, bool]]:
    """Name of the argument, tensor, whether it is written."""
    for place, argument in enumerate(func._schema.arguments):
        value = args[place] if place < len(args) else kwargs.get(argument.name)
        written = argument.alias_info is not None and argument.alias_info.is_write
        for tensor in _tensors(value):
            yield argument.name, tensor, written


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _view(tensor: Tensor) -> tuple[Any, ...]:
    return _place(tensor), tensor.storage_offset(), tensor.shape, tensor.stride()


def _size(tensor: Tensor) -> int:
    """Bytes of what differs: expanded dimensions count once."""
    sizes = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or not size)
    return math.prod(sizes) * tensor.element_size()


def count_traffic(
    model: torch.nn.Module, plan: Plan, options: RunOptions, frames: int, size: tuple[int, int]
) -> TrafficCounter:
    """A pass of a network on the meta device; `size` is width and height in pixels."""
    images = torch.empty(frames, 3, size[1], size[0], dtype=torch.uint8, device="meta")
    with torch.no_grad(), TrafficCounter() as counter:
        model(images, plan, options, counter)
    return counter


@dataclasses.dataclass(frozen=True)
class TrafficOptions:
    """What is counted."""

    plans: tyro.conf.Positional[tuple[str, ...]]
    """Plans, as --accel takes them."""
    model: str = "vggt-1b"
    """Name of a network whose sizes are known."""
    frames: int = 100
    """Number of frames."""
    size: tuple[int, int] = (518, 392)
    """WIDTH HEIGHT of the images in pixels."""
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    """Of the trunk."""
    kernels: Literal["plain", "norms", "triton"] = "norms"
    """As reconstruct takes them."""
    linear_precision: Literal["plain", "fp8"] = "plain"
    """Of the trunk."""
    head_precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    """Of the dense heads' convolutions; in 16 bits with channels last."""
    pieces: tuple[int, int, int] = (31, 32768, 8)
    """Frames of a frame layer, tokens of an MLP, frames of a head at a time."""
    operations: int = 0
    """Also so many operations of each stage that move most."""
    json: bool = False
    """JSON in place of tables."""


def run_options(chosen: TrafficOptions) -> RunOptions:
    """The options of the pass."""
    low = chosen.head_precision != "fp32"
    return RunOptions(
        _PRECISIONS[chosen.precision],
        *chosen.pieces,
        kernels=chosen.kernels,
        linear_precision=chosen.linear_precision,
        head_dtype=_PRECISIONS[chosen.head_precision] if low else None,
        channels_last=True if low else None,
    )


def table(counter: TrafficCounter, operations: int = 0) -> list[str]:
    """Markdown lines: stages, then the operations that move most in each."""
    lines = [
        "| stage | dispatches | elementwise, GB | products, GB | TFLOP | peak, GB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, one in [*counter.stages.items(), ("**trunk**", counter.trunk())]:
        lines.append(
            f"| {name} | {one.dispatches:,} | {one.elementwise_bytes / 1e9:,.1f} "
            f"| {one.product_bytes / 1e9:,.1f} | {one.flops / 1e12:,.1f} | {one.peak_bytes / 1e9:,.1f} |"
        )
    for stage, one in counter.stages.items():
        most = sorted(one.operations.items(), key=lambda item: -item[1])[:operations]
        lines += [f"- {stage}: " + ", ".join(f"{name} {moved / 1e9:,.1f}" for name, moved in most)] * bool(
            most
        )
    return lines


def run(chosen: TrafficOptions) -> None:
    """The command; see the module. Raises UsageError for a network whose sizes are not known."""
    row = find_model(chosen.model)
    if row is None or row.config is None:
        raise UsageError(f"the sizes of {chosen.model!r} are not known: name a network that has a name")
    model = empty_network(row.config).eval()
    found: dict[str, Any] = {}
    for spec in chosen.plans:
        plan = Plan.parse(spec, row.config.depth)
        counter = count_traffic(model, plan, run_options(chosen), chosen.frames, chosen.size)
        stages = {**counter.stages, "trunk": counter.trunk()}
        found[spec] = {name: dataclasses.asdict(one) for name, one in stages.items()}
        if not chosen.json:
            title = f"{spec}, {chosen.frames} frames, {chosen.kernels}"
            say("\n".join([title, "", *table(counter, chosen.operations), ""]))
    if chosen.json:
        say(json.dumps(found, indent=1))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module."""
    return run_command(TrafficOptions, run, "tools.kernels.traffic", arguments)


if __name__ == "__main__":
    sys.exit(main())
