"""Streaming by anchors: a few covering frames are solved once, later frames attend to them and themselves."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

import torch
from jaxtyping import Float, Num, UInt8
from torch import Tensor

from ..attention.anchor_memory import AnchorMemory, ChosenAnchors
from ..attention.global_attention import GlobalAttention
from ..attention.methods.anchors import AnchorKeys
from ..attention.plan import Plan
from ..errors import UsageError
from ..models.network import Network, check_images
from ..models.precision import ConvertedWeights
from ..models.predictions import Predictions
from ..models.run_options import RunOptions
from ..models.transfer import to_device, to_host
from ..reconstruction.plan.machine import synchronise
from ..reconstruction.run.anchored import SolvedAnchors, encoder_features, solve_anchors
from .anchor_rule import first_uncovered
from .engine import StreamUpdate
from .forward import check_anchorable

_GROWING_STEP = 8  # frames attached at a time while one of them may become an anchor


@dataclasses.dataclass(frozen=True)
class AnchorOptions:
    """Options of the anchor engine.

    Attributes:
        accel: a plan of anchors.
        start: the first anchors are chosen among this many frames and solved together.
        beyond: a later frame farther from the nearest anchor than this many times the spacing of the anchors
            becomes an anchor too (`anchor_rule`; None: the set is fixed).
        budget_bytes: limit of the memory; beyond it the set is fixed.
    """

    accel: str = "anchors:frames=8"
    start: int = 24
    beyond: float | None = 1.6
    budget_bytes: int = 2**32

    def __post_init__(self) -> None:
        if self.start < 1:
            raise ValueError(f"start must be at least 1 frame, not {self.start}")
        if self.beyond is not None and self.beyond <= 0:
            raise ValueError(f"beyond must be a positive factor, not {self.beyond}")
        if self.budget_bytes < 1:
            raise ValueError(f"budget_bytes must be positive, not {self.budget_bytes}")


@dataclasses.dataclass(frozen=True, eq=False)
class _Held:
    """State of the engine, replaced as a whole, so that a push that fails changes nothing."""

    frames: int = 0
    images: UInt8[Tensor, "frames 3 h w"] | Float[Tensor, "frames 3 h w"] | None = None
    solved: SolvedAnchors | None = None
    anchors: tuple[int, ...] = ()
    features: Float[Tensor, "anchors dim"] | None = None
    size: tuple[int, int] | None = None
    full: bool = False

    @property
    def bytes(self) -> int:
        kept = sum(x.nbytes for x in (self.images, self.features) if x is not None)
        return kept + (0 if self.solved is None else self.solved.memory.bytes)


class AnchorEngine:
    """Streaming of a VGGT-type network or π³ by anchors; see `engine.StreamEngine` for the methods.

    Until `start` frames have arrived, each push solves all of them again. Then the anchors are fixed, and
    every frame depends on them and itself alone, whatever the chunks: the same as one pass over the whole
    stream with these anchors, until the set grows. Raises UsageError for a network or a plan under which
    frames cannot be attached one by one, or a budget below one anchor.
    """

    def __init__(
        self, model: Network, options: AnchorOptions | None = None, run: RunOptions | None = None
    ) -> None:
        self._options = options or AnchorOptions()
        self._run = dataclasses.replace(run or RunOptions(), heads=("camera", "depth"), host_outputs=True)
        self._plan = Plan.parse(self._options.accel, model.config.depth)
        check_anchorable(model, self._plan)
        self._model = model
        self._held = _Held()
        self._weights = ConvertedWeights()  # for all chunks

    @property
    def frames(self) -> int:
        return self._held.frames

    @property
    def anchors(self) -> tuple[int, ...]:
        """Frames of the stream that are anchors."""
        return self._held.anchors

    @property
    def memory_bytes(self) -> int:
        return self._held.bytes

    def cameras(self) -> None:
        """Cameras of the updates are final."""
        return None

    @torch.no_grad()  # not inference mode: what users get are plain tensors
    def push(self, images: Num[Tensor, "views 3 height width"]) -> StreamUpdate:
        device = next(self._model.parameters()).device
        start, before = time.perf_counter(), self._held
        batch = to_device(check_images(images)[0], device)
        size = (batch.shape[-2], batch.shape[-1])
        if before.size not in (None, size):
            raise UsageError(f"the stream has images of {before.size}, not {size} (height, width)")
        held, parts = dataclasses.replace(before, size=size), []
        rest = batch
        if held.frames < self._options.start:
            first, rest = batch.tensor_split([self._options.start - held.frames])
            held, part = self._start(held, first)
            parts.append(part)
        while len(rest):
            held, part = self._attach(held, rest)
            parts.append(part)
            rest = rest[len(part[0]) :]
        cameras, intrinsics, depth, conf = (
            to_host(torch.cat([part[i] for part in parts]).float()) for i in range(4)
        )
        synchronise(device)
        self._held = held
        full = held.full and not before.full
        note = f"the memory of {self._options.budget_bytes / 2**20:.0f} MiB holds no further anchor"
        return StreamUpdate(
            before.frames,
            cameras,
            intrinsics,
            depth,
            conf,
            held.bytes,
            time.perf_counter() - start,
            tuple(sorted(set(held.anchors) - set(before.anchors))),
            (note,) if full else (),
        )

    def state(self) -> dict[str, Tensor]:
        held = self._held
        named = {
            "frames": torch.tensor(held.frames),
            "anchors": torch.tensor(held.anchors, dtype=torch.int64),
            "full": torch.tensor(held.full),
            "size": None if held.size is None else torch.tensor(held.size),
            "images": held.images,
            "features": held.features,
            "world": None if held.solved is None else held.solved.world,
        }
        memory = {} if held.solved is None else held.solved.memory.tensors()
        return {name: tensor for name, tensor in named.items() if tensor is not None} | memory

    def restore(self, state: Mapping[str, Tensor]) -> None:
        device = next(self._model.parameters()).device
        on_device = {name: tensor.to(device) for name, tensor in state.items()}
        try:
            memory = AnchorMemory.from_tensors(on_device)
            anchors = tuple(state["anchors"].tolist())
            frames, size = int(state["frames"]), tuple(state["size"].tolist()) if "size" in state else None
            full = bool(state["full"])
        except KeyError as error:
            raise ValueError(f"the state of the stream lacks {error}") from error
        wanted = {i for i, layer in enumerate(self._plan.layers) if isinstance(layer.keys, AnchorKeys)}
        if (frames >= self._options.start and memory.layers.keys() != wanted) or (
            0 < frames < self._options.start and "images" not in state
        ):
            raise ValueError("the state belongs to a stream with another network or other options")
        solved = None
        if memory.layers:
            world = on_device.get("world")
            solved = SolvedAnchors(self._model, self._plan, self._run, memory, world, self._weights)
        self._held = _Held(
            frames,
            on_device.get("images"),
            solved,
            anchors,
            on_device.get("features"),
            size,
            full,  # type: ignore[arg-type]
        )

    def _start(self, held: _Held, new: Tensor) -> tuple[_Held, tuple[Tensor, ...]]:
        """Solve all first frames again; after the last of them the anchors are fixed."""
        images = new if held.images is None else torch.cat([held.images, new])
        count = len(images)
        features = encoder_features(
            self._model, lambda a, b: images[a:b], count, self._run, weights=self._weights
        )
        plan = self._within_budget((images.shape[-2], images.shape[-1]))
        # Frame 0 is an anchor of every network, also without a reference frame: its camera is the world.
        chosen = ChosenAnchors.of(plan, count, 0, features[None])
        where = torch.tensor(chosen.frames, device=images.device)
        solved, found = solve_anchors(self._model, images[where], chosen, self._run, weights=self._weights)
        others = [frame for frame in range(count) if frame not in chosen.frames]
        order = torch.tensor([*chosen.frames, *others]).argsort()[count - len(new) :]
        parts = _parts(found)
        if others:
            attached = _parts(solved.attach(images[torch.tensor(others, device=images.device)]))
            parts = tuple(torch.cat(pair) for pair in zip(parts, attached, strict=True))
        parts = tuple(part[order.to(part.device)] for part in parts)  # maps are on the host
        if count < self._options.start:
            return dataclasses.replace(held, frames=count, images=images), parts
        solved = dataclasses.replace(solved, plan=self._plan)
        return _Held(count, None, solved, chosen.frames, features[where], held.size), parts

    def _attach(self, held: _Held, images: Tensor) -> tuple[_Held, tuple[Tensor, ...]]:
        """Attach the next frames up to one that becomes an anchor, if any."""
        options, solved, features = self._options, held.solved, held.features
        assert solved is not None and features is not None
        growing = options.beyond is not None and not held.full
        images = images[:_GROWING_STEP] if growing else images
        passing: dict[str, Tensor] = {}
        parts = _parts(solved.attach(images, passing=passing))
        found = passing["frame features"][0]
        new = first_uncovered(found, features, options.beyond) if growing and options.beyond else None
        if new is None:
            return dataclasses.replace(held, frames=held.frames + len(images)), parts
        parts = tuple(part[: new + 1] for part in parts)
        frame = held.frames + new
        if held.bytes + self._bytes_each((images.shape[-2], images.shape[-1])) > options.budget_bytes:
            return dataclasses.replace(held, frames=frame + 1, full=True), parts
        grown = dataclasses.replace(
            held,
            frames=frame + 1,
            solved=solved.adopt(images[new : new + 1]),
            anchors=(*held.anchors, frame),
            features=torch.cat([features, found[new : new + 1]]),
        )
        return grown, parts

    def _within_budget(self, size: tuple[int, int]) -> Plan:
        """The plan with no more anchors than fit in the budget."""
        each, budget = self._bytes_each(size), self._options.budget_bytes
        if each > budget:
            raise UsageError(
                f"one anchor takes {each / 2**20:.1f} MiB and the stream may hold {budget / 2**20:.1f} MiB: "
                "raise the budget or use smaller images"
            )

        def fewer(layer: GlobalAttention) -> GlobalAttention:
            if not isinstance(layer.keys, AnchorKeys):
                return layer
            keys = dataclasses.replace(layer.keys, frames=min(layer.keys.frames, budget // each))
            return dataclasses.replace(layer, keys=keys)

        camera = None if self._plan.camera is None else fewer(self._plan.camera)
        return Plan(tuple(fewer(layer) for layer in self._plan.layers), self._plan.name, camera)

    def _bytes_each(self, size: tuple[int, int]) -> int:
        """Keys, values and features of one anchor."""
        config = self._model.config
        layers = sum(isinstance(layer.keys, AnchorKeys) for layer in self._plan.layers)
        element = (self._run.dtype or torch.float32).itemsize
        keys_values = 2 * layers * config.layout(1, *size).tokens * config.dim * element
        return keys_values + config.camera_memory_bytes + 4 * config.dim


def _parts(found: Predictions) -> tuple[Tensor, ...]:
    assert found.z_depth is not None and found.depth_conf is not None
    # Some networks leave maps on the device.
    maps = (to_host(x[0]) for x in (found.z_depth, found.depth_conf))
    return found.cam_from_world[0], found.intrinsics[0], *maps
