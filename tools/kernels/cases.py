"""Every kernel beside the plain operations that it stands for, on inputs of any size, for parity."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from manyview.kernels.head_rotate import Angles, qk_norm_rotate
from manyview.kernels.row_norm import add_scaled_norm, layer_norm
from manyview.models.omega.blocks import RotaryPeriods, TiledRotation
from manyview.models.rotary import Rotation, frame_positions, rotation_for

_EPS = 1e-5


@dataclasses.dataclass(frozen=True)
class CaseSize:
    """Tokens as a network has them; the default is VGGT-1B at 518x392."""

    frames: int = 100
    grid: tuple[int, int] = (28, 37)
    special_tokens: int = 5
    heads: int = 16
    head_dim: int = 64

    @property
    def dim(self) -> int:
        return self.heads * self.head_dim

    @property
    def tokens(self) -> int:
        return self.frames * (self.special_tokens + self.grid[0] * self.grid[1])


@dataclasses.dataclass(frozen=True)
class Trial:
    """One kernel on one input.

    `fused` and `plain` take `inputs` and may overwrite them; both return what they computed. `plain` on
    inputs of float64 is what is exact. `fused_units` and `plain_units`: bytes moved, in reads and writes of
    one token tensor [tokens, dim].
    """

    inputs: tuple[Tensor, ...]
    fused: Callable[..., tuple[Tensor, ...]]
    plain: Callable[..., tuple[Tensor, ...]]
    fused_units: float
    plain_units: float


@dataclasses.dataclass(frozen=True)
class KernelCase:
    """A kernel, and the plain operations that parity compares it with.

    `make(size, dtype, device, generator)` gives a trial. `roundings`: how many of the dtype's own
    (`torch.finfo(dtype).eps`) a value of size one may be off in 16 bits; float32 may be off `sums` of them.
    `strided`: how many of the inputs, from the first, are [1, tokens, dim] with any stride between tokens.
    """

    name: str
    make: Callable[[CaseSize, torch.dtype, torch.device, torch.Generator], Trial]
    roundings: float = 1.0
    sums: float = 64.0
    strided: int = 0

    def allowed(self, dtype: torch.dtype) -> float:
        """The largest error |got - exact| / (1 + |exact|)."""
        return torch.finfo(dtype).eps * (self.sums if dtype == torch.float32 else self.roundings)


def _random(generator: torch.Generator, *shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.randn(*shape, generator=generator, device=device, dtype=torch.float32).to(dtype)


def _norm_case(size: CaseSize, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Trial:
    x = _random(generator, 1, size.tokens, size.dim, dtype=dtype, device=device)
    weight, bias = _random(generator, 2, size.dim, dtype=torch.float32, device=device)
    return Trial(
        (x, weight, bias),
        lambda x, w, b: (layer_norm(x, w, b, _EPS),),
        lambda x, w, b: (F.layer_norm(x, w.shape, w.to(x.dtype), b.to(x.dtype), _EPS),),
        2,
        2,
    )


def _sum_case(scales: bool) -> Callable[..., Trial]:
    def make(size: CaseSize, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Trial:
        x, branch = (
            _random(generator, 1, size.tokens, size.dim, dtype=dtype, device=device) for _ in range(2)
        )
        gamma, weight, bias = _random(generator, 3, size.dim, dtype=torch.float32, device=device)

        def fused(x: Tensor, branch: Tensor, g: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, ...]:
            return x, add_scaled_norm(x, branch, g if scales else None, w, b, _EPS)

        def plain(x: Tensor, branch: Tensor, g: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, ...]:
            x = x.addcmul_(branch, g.to(x.dtype)) if scales else x.add_(branch)
            return x, F.layer_norm(x, w.shape, w.to(x.dtype), b.to(x.dtype), _EPS)

        return Trial((x, branch, gamma, weight, bias), fused, plain, 4, 5)

    return make


def _rotation(size: CaseSize, tiled: bool, device: torch.device) -> Rotation:
    if tiled:
        return RotaryPeriods(size.head_dim, 100.0).to(device).rotation(size.grid, size.special_tokens)
    return rotation_for(frame_positions(size.grid, size.special_tokens, device), size.head_dim)


def _rotate_case(norm: bool, tiled: bool = False) -> Callable[..., Trial]:
    def make(size: CaseSize, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Trial:
        x = _random(generator, 1, size.tokens, size.dim, dtype=dtype, device=device)
        weight, bias = _random(generator, 2, size.head_dim, dtype=torch.float32, device=device)
        turn = _rotation(size, tiled, device)
        kind = TiledRotation if tiled else Rotation

        def fused(x: Tensor, w: Tensor, b: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, ...]:
            angles = Angles(cos, sin, tiled)
            if norm:
                return (qk_norm_rotate(x, size.heads, w, b, _EPS, angles),)
            return (qk_norm_rotate(x, size.heads, angles=angles),)

        def plain(x: Tensor, w: Tensor, b: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, ...]:
            heads = x.unflatten(-1, (size.heads, size.head_dim)).transpose(1, 2)
            if norm:
                heads = F.layer_norm(heads, w.shape, w.to(x.dtype), b.to(x.dtype), _EPS)
            return (kind(cos, sin).apply(heads),)

        # Plain: a contiguous copy and the norm, or none; four products of halves (4), two sums (3), their
        # joining (2).
        return Trial((x, weight, bias, turn.cos, turn.sin), fused, plain, 2, (4 if norm else 0) + 9)

    return make


def kernel_cases() -> dict[str, KernelCase]:
    """All kernels by name. Imports them: Triton must be there."""
    from tools.kernels.attention_cases import attention_cases  # builds on this module

    cases = (
        KernelCase("layer norm", _norm_case, strided=1),
        # The norm is of the sum as it is stored, so that its rounding counts too.
        KernelCase("scaled sum, layer norm", _sum_case(True), roundings=3, strided=2),
        KernelCase("sum, layer norm", _sum_case(False), roundings=3, strided=2),
        KernelCase("q/k norm, rotation", _rotate_case(True), roundings=2, strided=1),
        KernelCase("rotation", _rotate_case(False), roundings=2, strided=1),
        KernelCase("q/k norm, tiled rotation", _rotate_case(True, tiled=True), roundings=2, strided=1),
        *attention_cases(),
    )
    return {case.name: case for case in cases}
