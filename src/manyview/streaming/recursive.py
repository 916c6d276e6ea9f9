"""Chunk-recursive streaming (FlashVGGT, arXiv 2512.01540, section 3; facts of both public releases).

Every chunk runs once through the network. In each global layer it attends to the descriptors of earlier
chunks, kept as projected keys and values, and to all patches of frame 0.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float, Num
from torch import Tensor

from ..attention.plan import Plan, PlanCost
from ..errors import UsageError
from ..geometry.cameras import pose_encoding_to_cameras
from ..models.network import Network, check_images
from ..models.precision import ConvertedWeights
from ..models.run_options import RunOptions
from ..models.transfer import to_device, to_host
from ..reconstruction.plan.machine import synchronise
from .engine import StreamUpdate
from .forward import check_streamable
from .plan_memory import PlanMemory, RetentionRule, retained_frames

DEFAULT_MEMORY_FRAMES = 128
_TRAINING_FREE = "flash:r=2"  # weights not trained with descriptors lose less with more of them


@dataclasses.dataclass(frozen=True)
class RecursiveOptions:
    """Options of the chunk-recursive engine.

    Attributes:
        accel: a plan of descriptors and of layers with same-frame attention (None: what the weights were
            trained for, else flash:r=2). There are no keyframes but frame 0.
        keep_one_in: of p frames the first stays in memory.
        semantics: "paper" drops frames only for later chunks and counts over the stream; "released" counts
            within each chunk and masks the dropped frames in their own chunk too, as `memory_drop_rate` of
            the public code (its two versions differ in their descriptors: flash:version=v1 or v2).
        memory_frames: at most this many frames in memory, half of them the latest (None: no limit).
        camera_window: frames whose camera tokens the camera head takes beside the chunk's (None: all).
        revise: keep the camera tokens of all frames, so that `cameras` can revise all cameras at the end.
    """

    accel: str | None = None
    keep_one_in: int = 5
    semantics: Literal["paper", "released"] = "paper"
    memory_frames: int | None = DEFAULT_MEMORY_FRAMES
    camera_window: int | None = 64
    revise: bool = False

    def __post_init__(self) -> None:
        if self.keep_one_in < 1:
            raise ValueError(f"keep_one_in must be at least 1, not {self.keep_one_in}")
        if self.semantics not in ("paper", "released"):
            raise ValueError(f"semantics are paper or released, not {self.semantics!r}")
        for name in ("memory_frames", "camera_window"):
            value = getattr(self, name)
            if value is not None and value < 2:
                raise ValueError(f"{name} must be at least 2 (frame 0 and the latest), not {value}")
        if self.memory_frames is not None and self.semantics == "released":
            raise ValueError(
                "the released semantics keep frames by chunk without a limit: memory_frames must be None "
                "(--memory-frames 0)"
            )

    def rule(self) -> RetentionRule:
        return RetentionRule(self.keep_one_in, self.memory_frames, self.semantics == "released")


def default_accel(model: Network) -> str:
    """The descriptors that the weights were trained for, else those that lose least."""
    trained_for = None if model.info is None else model.info.plan
    return trained_for if trained_for is not None and trained_for.startswith("flash") else _TRAINING_FREE


class RecursiveEngine:
    """Chunk-recursive streaming of a VGGT-type network; see `engine.StreamEngine` for the methods.

    The first chunk equals the offline pass with the same plan. Raises UsageError for a network that cannot
    be streamed in chunks, or a plan without descriptors.
    """

    def __init__(
        self, model: Network, options: RecursiveOptions | None = None, run: RunOptions | None = None
    ) -> None:
        check_streamable(model)
        self._model = model
        self._options = options or RecursiveOptions()
        self._run = dataclasses.replace(run or RunOptions(), host_outputs=True)
        plan = Plan.parse(self._options.accel or default_accel(self._model), self._model.config.depth)
        self._memory = PlanMemory(plan, self._options.rule())
        self._weights = ConvertedWeights()  # for all chunks
        self._size: tuple[int, int] | None = None
        self._window: Tensor | None = None  # camera tokens for the camera head with the next chunk
        self._all: list[Tensor] = []

    @property
    def frames(self) -> int:
        return self._memory.arrived

    @property
    def frames_in_memory(self) -> tuple[int, ...]:
        """Frames whose descriptors later chunks attend to."""
        return self._memory.kept

    @property
    def memory_bytes(self) -> int:
        cameras = [] if self._window is None else [self._window, *self._all]
        return self._memory.nbytes + sum(tokens.nbytes for tokens in cameras)

    def cost(self, frames: int, size: tuple[int, int]) -> PlanCost:
        """Operations of global attention if the next chunk has `frames` images of `size` (height, width)."""
        config = self._model.config
        plan = self._memory.plan(frames)
        return plan.cost(config.layout(frames, *size), config.dim, head_dim=config.dim // config.num_heads)

    @torch.no_grad()  # not inference mode: what users get are plain tensors
    def push(self, images: Num[Tensor, "views 3 height width"]) -> StreamUpdate:
        device = next(self._model.parameters()).device
        start, first = time.perf_counter(), self.frames
        batch = to_device(check_images(images), device)
        size, new = (batch.shape[-2], batch.shape[-1]), batch.shape[1]
        if self._size not in (None, size):
            raise UsageError(f"the stream has images of {self._size}, not {size} (height, width)")
        try:
            plan = self._memory.plan(new)
            out = self._model.run_chunk(batch, plan, self._run, first == 0, weights=self._weights)
            tokens = out.camera_tokens
            seen = tokens if self._window is None else torch.cat([self._window, tokens], 1)
            cameras, intrinsics = self._to_cameras(seen, size)
            depth, conf = (to_host(x[0].float()) for x in (out.z_depth, out.depth_conf))
        except BaseException:
            self._memory.discard_new()
            raise
        self._memory.commit(new)
        self._size = size
        self._keep_camera_tokens(seen, tokens, first)
        synchronise(device)
        return StreamUpdate(
            first,
            cameras[-new:],
            intrinsics[-new:],
            depth,
            conf,
            self.memory_bytes,
            time.perf_counter() - start,
            (0,) if first == 0 else (),
        )

    @torch.no_grad()  # not inference mode: what users get are plain tensors
    def cameras(self) -> tuple[Float[Tensor, "frames 3 4"], Float[Tensor, "frames 3 3"]] | None:
        if not self._all or self._size is None:
            return None
        return self._to_cameras(torch.cat(self._all, 1), self._size)

    def state(self) -> dict[str, Tensor]:
        named = self._memory.state()
        if self._size is None or self._window is None:
            return named
        named |= {"size": torch.tensor(self._size), "camera window": self._window}
        if self._all:
            self._all = [torch.cat(self._all, 1)]
            named["camera tokens"] = self._all[0]
        return named

    def restore(self, state: Mapping[str, Tensor]) -> None:
        device = next(self._model.parameters()).device
        if ("camera tokens" in state) != self._options.revise or "camera window" not in state:
            raise ValueError("the state belongs to a stream with other options")
        self._memory.restore(state, device)
        height, width = state["size"].tolist()
        self._size = height, width
        self._window = state["camera window"].to(device)
        self._all = [state["camera tokens"].to(device)] if self._options.revise else []

    def _to_cameras(self, tokens: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        encoding = self._model.camera_encoding(tokens)
        cameras, intrinsics = pose_encoding_to_cameras(encoding, *size)
        return cameras[0].float().cpu(), intrinsics[0].float().cpu()

    def _keep_camera_tokens(self, seen: Tensor, new: Tensor, first: int) -> None:
        """Update the window; `seen` are its camera tokens followed by those of the chunk."""
        window = self._options.camera_window
        there = (*retained_frames(first, 1, window), *range(first, self.frames))
        place = {frame: index for index, frame in enumerate(there)}
        index = [place[frame] for frame in retained_frames(self.frames, 1, window)]
        self._window = seen if len(index) == len(there) else seen[:, torch.tensor(index, device=seen.device)]
        if self._options.revise:
            self._all.append(new)
