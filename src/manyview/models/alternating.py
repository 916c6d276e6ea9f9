"""What alternating networks share: an encoder, then frame and global blocks in turn (VGGT, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from ..attention.global_attention import DENSE
from ..attention.layout import TokenLayout
from ..attention.plan import Plan
from ..attention.protocols import LayerRun
from ..distributed.ranks import Ranks
from ..errors import UsageError
from ..kernels import launch_device
from .blocks import Block
from .config import NetworkConfig
from .pose_encoding import frame_attention
from .precision import Compute, ConvertedWeights
from .recording import mark
from .rotary import Rotation, frame_rotation
from .run_options import RunOptions

_IMAGE_MEAN = (0.485, 0.456, 0.406)
_IMAGE_STD = (0.229, 0.224, 0.225)
_OVERSHOOT = 0.5

FeatureTapReader = Callable[[int, Tensor, Tensor, Compute], None]


class Known:
    """What is known of an input beside its images, as changes of tokens [B, S, P, C]; here none.

    `frame_order` [B, S] is the frame of the input at each place once tokens are embedded (None: as given).
    """

    @property
    def frame_order(self) -> Int[Tensor, "batch frames"] | None:
        return None

    def embedded(self, x: Tensor, layout: TokenLayout, compute: Compute) -> Tensor:
        """Tokens after the encoder."""
        return x

    def after_pair(self, layer: int, x: Tensor, layout: TokenLayout, compute: Compute) -> Tensor:
        """Tokens after a pair of blocks."""
        return x


@runtime_checkable
class ImageEncoder(Protocol):
    """Normalised images to patch tokens; `position_embedding` is made once a run."""

    def position_embedding(self, grid: tuple[int, int]) -> Any: ...

    def __call__(self, images: Tensor, positions: Any, compute: Compute) -> Tensor: ...


class AlternatingLayers(nn.Module):
    """Encoder and pairs of a frame and a global block; what differs between networks is in methods."""

    config: NetworkConfig

    def image_encoder(self) -> ImageEncoder:
        """Normalised images to patch tokens."""
        raise NotImplementedError

    def frame_block(self, layer: int) -> Block | None:
        """The block of a pair that acts within frames; None where a pair has none."""
        raise NotImplementedError

    def global_block(self, layer: int) -> Block:
        """The block of a pair that attends across frames."""
        raise NotImplementedError

    def special_tokens(self, batch: int, frames: int) -> Float[Tensor, "b s n c"]:
        """Learned tokens in front of each frame's patches."""
        raise NotImplementedError

    def plan_layers(self) -> Sequence[int | None]:
        """For each pair the layer of a plan that it follows; None: it attends among special tokens only."""
        return range(self.config.depth)

    def rotations(self, layout: TokenLayout, device: torch.device) -> tuple[Rotation | None, Rotation | None]:
        """Positions in frame blocks, and in global blocks."""
        head_dim = self.config.dim // self.config.num_heads
        rotation = frame_rotation(layout, head_dim, self.config.rope_base, device)
        return rotation, rotation

    def run_layers(
        self,
        images: Tensor,
        plan: Plan,
        options: RunOptions,
        read_feature_tap: FeatureTapReader,
        recorder: Any = None,
        known: Known | None = None,
        memory: dict[Any, Any] | None = None,
        weights: ConvertedWeights | None = None,
    ) -> TokenLayout:
        """Run all layers on images [B, S, 3, H, W] (uint8, or floating in [0, 1]).

        After each pair, `read_feature_tap(layer, frame_tokens, global_tokens, compute)` receives both outputs
        [B, S, P, C] if the layer is one of the reader's; it must copy what it keeps. `known` may change
        tokens after the encoder and after each pair. `memory` is what the layers share (`LayerRun.memory`);
        the features by which frames are chosen are left there as "frame features", None if no layer needs
        them. `weights`: converted weights that several passes share (None: kept while they are in use).
        With `options.ranks` the images, what the reader receives and the layout are of this rank's frames.
        """
        frames, ranks = images.shape[1], options.ranks
        whole = self.config.whole_layout(images, ranks)
        layout = whole if ranks is None else whole.part(ranks.split)
        if len(plan.layers) != self.config.depth:
            raise UsageError(
                f"the plan has {len(plan.layers)} layers, this network has {self.config.depth} global layers"
            )
        if ranks is not None:
            _check_distributed(plan, whole, ranks, recorder)
        if not self.training:
            check_range(images)
        compute = Compute.for_trunk(options, weights)
        x = self.embed(images, layout, options, compute, known)
        compute.block_done()
        mark(recorder, "encoder")
        pairs = self.plan_layers()
        rotation, across = self.rotations(layout, images.device)
        inplace = not torch.is_grad_enabled()
        piece = options.frames_per_chunk if inplace else None
        wanted = getattr(read_feature_tap, "layers", range(len(pairs)))
        features = _features(x) if plan.needs_frame_features else None
        if features is not None and ranks is not None:
            features = ranks.gather(features, 1).wait()
        memory = {} if memory is None else memory
        memory["frame features"] = features
        order = None if known is None else known.frame_order
        for pair, layer in enumerate(pairs):
            x = self._frame_layer(pair, x, rotation, piece, inplace, compute)
            compute.block_done()
            if layer is not None:
                mark(recorder, "frame layers")
            frame_tokens = x.clone() if inplace and pair in wanted else x
            if layer is None:
                x = self._special_token_attention(pair, x, inplace, compute, whole, ranks)
            else:
                record = getattr(recorder, "global_attention", None)
                run = LayerRun(layer, piece, record, features, memory, compute.kernels, order, ranks, whole)
                attend = plan.layers[layer]
                x = self.global_block(pair)(
                    x.flatten(1, 2),
                    across_frames=lambda attn, y, m=attend, r=run: m(attn, y, layout, across, r),
                    mlp_tokens_per_chunk=options.mlp_tokens_per_chunk,
                    inplace=inplace,
                    compute=compute,
                ).unflatten(1, (frames, -1))
            if known is not None:
                x = known.after_pair(pair, x, layout, compute)
            if pair in wanted:
                read_feature_tap(pair, frame_tokens, x, compute)
            del frame_tokens
            compute.block_done()
            if layer is None:  # little work: its time counts with the frame layers that follow
                continue
            mark(recorder, "global layers")
            if hasattr(recorder, "global_tokens"):
                recorder.global_tokens(layer, x)
        return layout

    def frame_features(
        self,
        images: Tensor,
        options: RunOptions,
        known: Known | None = None,
        weights: ConvertedWeights | None = None,
    ) -> Float[Tensor, "batch frames dim"]:
        """What `run_layers` hands to methods that choose frames, of these images, from the encoder alone."""
        layout = self.config.layout(images.shape[1], *images.shape[-2:])
        compute = Compute.for_trunk(options, weights)
        with launch_device(compute.kernels, images.device):
            return _features(self.embed(images, layout, options, compute, known))

    def embed(
        self,
        images: Tensor,
        layout: TokenLayout,
        options: RunOptions,
        compute: Compute,
        known: Known | None = None,
    ) -> Float[Tensor, "b s p c"]:
        """Tokens that enter the first pair: the encoder's, changed by what is `known`."""
        x = self._encoded(images, layout, options, compute)
        return x if known is None else known.embedded(x, layout, compute)

    def _encoded(
        self, images: Tensor, layout: TokenLayout, options: RunOptions, compute: Compute
    ) -> Float[Tensor, "b s p c"]:
        """Encoder patches behind the special tokens, written frame piece by frame piece."""
        batch, frames = images.shape[:2]
        dtype = options.dtype or next(self.parameters()).dtype
        flat = images.flatten(0, 1)
        encoder = self.image_encoder()
        positions = encoder.position_embedding(layout.grid)
        specials = self.special_tokens(batch, frames)
        if options.ranks is not None and options.ranks.split.first:  # another rank has the first frame
            specials = self.special_tokens(batch, frames + 1)[:, 1:]
        specials = specials.to(dtype)
        compute = compute.in_pieces((options.frames_per_chunk or len(flat)) < len(flat))

        def encode(part: Tensor) -> Tensor:
            return encoder(normalise_images(part, dtype), positions, compute)

        if torch.is_grad_enabled() or options.frames_per_chunk is None:
            return torch.cat([specials, encode(flat).unflatten(0, (batch, frames))], dim=2)
        x = specials.new_empty(batch * frames, layout.tokens_per_frame, self.config.dim)
        x[:, : layout.special_tokens] = specials.flatten(0, 1)
        for start in range(0, len(flat), options.frames_per_chunk):
            stop = start + options.frames_per_chunk
            x[start:stop, layout.special_tokens :] = encode(flat[start:stop])
        return x.unflatten(0, (batch, frames))

    def _special_token_attention(
        self,
        pair: int,
        x: Tensor,
        inplace: bool,
        compute: Compute,
        whole: TokenLayout,
        ranks: Ranks | None,
    ) -> Tensor:
        """The special tokens of all frames pass a global block; patches stay as they are."""
        count, across = self.config.special_tokens, None
        if ranks is not None:
            across = partial(frame_attention(DENSE, whole, {}, compute.kernels, count, ranks), pair)
        specials = x[:, :, :count].flatten(1, 2)
        attended = self.global_block(pair)(specials, across_frames=across, compute=compute)
        attended = attended.unflatten(1, (x.shape[1], count))
        if not inplace:
            return torch.cat([attended, x[:, :, count:]], dim=2)
        x[:, :, :count] = attended
        return x

    def _frame_layer(
        self, layer: int, x: Tensor, rotation: Any, piece: int | None, inplace: bool, compute: Compute
    ) -> Tensor:
        block = self.frame_block(layer)
        if block is None:
            return x
        flat = x.flatten(0, 1)  # a view: pieces below are overwritten in place
        if piece is None:
            return block(flat, rotation, inplace=inplace, compute=compute).unflatten(0, x.shape[:2])
        for start in range(0, len(flat), piece):
            block(flat[start : start + piece], rotation, inplace=True, compute=compute)
        return x


class Aggregator(AlternatingLayers):
    """Layers whose first frame defines the world. Parameter names are those of checkpoints' `aggregator`.

    `encoder` becomes `patch_embed`; `block()` makes the blocks, the global ones under the name `across`.
    """

    def __init__(
        self, config: NetworkConfig, encoder: nn.Module, block: Callable[[], Block], across: str
    ) -> None:
        super().__init__()
        self.config, self._across = config, across
        # Two sets each: index 0 for the frame that defines the world, index 1 for all others.
        self.camera_token = nn.Parameter(torch.zeros(1, 2, 1, config.dim))
        self.register_token = nn.Parameter(torch.zeros(1, 2, config.special_tokens - 1, config.dim))
        self.patch_embed = encoder
        self.frame_blocks = nn.ModuleList(block() for _ in range(config.pairs))
        self.add_module(across, nn.ModuleList(block() for _ in range(config.pairs)))

    forward = AlternatingLayers.run_layers

    def image_encoder(self) -> ImageEncoder:
        return cast(ImageEncoder, self.patch_embed)

    def frame_block(self, layer: int) -> Block:
        return cast(Block, self.frame_blocks[layer])

    def global_block(self, layer: int) -> Block:
        return cast(Block, getattr(self, self._across)[layer])

    def special_tokens(self, batch: int, frames: int) -> Float[Tensor, "b s n c"]:
        tokens = torch.cat([self.camera_token, self.register_token], dim=2)
        first, others = tokens[:, :1], tokens[:, 1:]
        return torch.cat([first, others.expand(-1, frames - 1, -1, -1)], dim=1).expand(batch, -1, -1, -1)


def _features(x: Float[Tensor, "b s p c"]) -> Float[Tensor, "b s c"]:
    return x.mean(2, dtype=torch.promote_types(x.dtype, torch.float32))


def _check_distributed(plan: Plan, whole: TokenLayout, ranks: Ranks, recorder: Any) -> None:
    """UsageError where several ranks cannot share a scene in this way."""
    why_not = plan.why_not_distributed(whole)
    if why_not is not None:
        raise UsageError(why_not)
    together = plan.frames_together(whole)
    if any(split.first % together for split in ranks.split.parts):
        raise UsageError(
            f"{plan} needs every {together} of the {whole.frames} frames on one rank: cut them at multiples"
        )
    if torch.is_grad_enabled():
        raise UsageError("several ranks share a scene without gradients only: use torch.no_grad()")
    if hasattr(recorder, "global_attention"):
        raise UsageError("queries and keys of a scene that several ranks share cannot be recorded: use one")


def check_range(images: Tensor) -> None:
    """UsageError for floating-point images that are far from [0, 1], as those of 0 to 255, or NaN.

    Resizing may overshoot by a little. Nothing is looked at where that would break a compiled pass.
    """
    if not images.is_floating_point() or not images.numel() or torch.compiler.is_compiling():
        return
    capturing = images.is_cuda and torch.cuda.is_current_stream_capturing()
    if images.device.type not in ("cpu", "cuda") or type(images) is not Tensor or capturing:
        return
    low, high = (float(value) for value in images.aminmax())
    if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):
        raise UsageError(f"images reach from {low:g} to {high:g}; give floats in [0, 1], or uint8")


def normalise_images(
    images: Float[Tensor, "n 3 h w"] | UInt8[Tensor, "n 3 h w"], dtype: torch.dtype
) -> Float[Tensor, "n 3 h w"]:
    """ImageNet statistics applied to uint8 images, or to images in [0, 1]."""
    if images.dtype == torch.uint8:
        images = images.to(torch.float32, memory_format=torch.contiguous_format).div_(255.0)
    mean = torch.tensor(_IMAGE_MEAN, dtype=images.dtype, device=images.device).view(3, 1, 1)
    std = torch.tensor(_IMAGE_STD, dtype=images.dtype, device=images.device).view(3, 1, 1)
    return (images - mean).div_(std).to(dtype)
