"""Statistics of the attention of one layer, a tile of queries at a time, without a full score matrix."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..attention.layout import TokenLayout
from .layer_numbers import LayerNumbers, LayerView
from .matches import Matches
from .tiles import SCORES_AT_ONCE, queries_at_once, rows_of

_TOP = 8
_PAIRS = ("neighbour", "next_frame", "random")


def view_layer(
    q: Float[Tensor, "heads tokens dim"],
    k: Float[Tensor, "heads tokens dim"],
    layout: TokenLayout,
    queries: Int[Tensor, "queries 2"],
    matches: Matches,
    scores_at_once: int = SCORES_AT_ONCE,
) -> LayerView:
    """Statistics of a layer from its queries and keys of one scene (after QK norm and RoPE).

    `queries` are (frame, patch); at most `scores_at_once` scores exist at a time.
    """
    heads, tokens, _ = q.shape
    matches, keys = matches.to(q.device), k.float()
    parts = [
        _tile(q, keys, layout, part, matches)
        for part in queries.split(queries_at_once(heads, tokens, scores_at_once))
    ]
    sums = {name: torch.stack([part[name] for part in parts]).nansum(0) for name in parts[0]}
    count, seen = len(queries), sums["seen"].clamp(min=1)
    by_head = sums["match"] / seen
    by_head = torch.where(sums["seen"] > 0, by_head, torch.nan)
    shares = {name: float(sums[name] / count) for name in _MASSES + _PER_QUERY}
    alike = {
        f"cos_{name}_{kind}": by_head
        for name, x in (("q", q), ("k", keys))
        for kind, by_head in _cosines(x, layout).items()
    }
    numbers = LayerNumbers(
        **shares,
        match_top1=float(by_head.mean()),
        match_top1_best_head=float(by_head.max()),
        match_top8=float(sums["match_top8"] / seen) if sums["seen"] > 0 else float("nan"),
        match_chance=float(sums["chance"] / seen) if sums["seen"] > 0 else float("nan"),
        **{name: float(value.mean()) for name, value in alike.items()},
    )
    return LayerView(numbers, sums["distance"] / sums["pairs"], by_head, alike)


_BELOW = {"below_uniform": 1.0, "below_tenth": 0.1, "below_hundredth": 0.01}
_MASSES = ("mass_own_patch", "mass_own_frame", "mass_reference", "mass_other_frames", "mass_special")
_PER_QUERY = ("same_row", "same_place", "entropy", "keys_for_90", *_BELOW)


def _tile(q: Tensor, k: Tensor, layout: TokenLayout, queries: Tensor, matches: Matches) -> dict[str, Tensor]:
    """Sums over the queries of one tile (over heads: means)."""
    special, frames, grid = layout.special_tokens, layout.frames, layout.grid
    frame, patch = queries.to(q.device).unbind(1)
    sampled = q[:, rows_of(queries, layout).to(q.device)].float()
    logits = sampled @ k.transpose(1, 2) * q.shape[-1] ** -0.5  # [H, Q, N]
    weights = logits.softmax(-1)
    by_frame = weights.unflatten(-1, (frames, -1))
    patches = by_frame[..., special:]
    per_frame = patches.sum(-1).mean(0)  # [Q, S]
    rows = torch.arange(len(queries), device=q.device)
    same_patch = patches[:, rows, frame, patch].mean(0)
    same_frame = per_frame[rows, frame]
    reference = torch.zeros_like(same_frame)
    if layout.reference_frame is not None:
        elsewhere = frame != layout.reference_frame
        reference = per_frame[:, layout.reference_frame] * elsewhere
    total = per_frame.sum(-1)
    sums = {
        "mass_own_patch": same_patch.sum(),
        "mass_own_frame": (same_frame - same_patch).sum(),
        "mass_reference": reference.sum(),
        "mass_other_frames": (total - same_frame - reference).sum(),
        "mass_special": (1 - total).sum(),
        "entropy": -torch.special.xlogy(weights, weights).sum(-1).mean(0).sum()
        / math.log(max(layout.tokens, 2)),
        "keys_for_90": _keys_for(weights, 0.9).mean(0).sum(),
    } | {name: _below(weights, share) for name, share in _BELOW.items()}
    sums |= _by_distance(per_frame, frame, layout)
    others = logits.unflatten(-1, (frames, -1))[..., special:].clone()
    others[:, rows, frame] = float("-inf")
    top = others.flatten(2).topk(min(_TOP, max(1, (frames - 1) * layout.patches_per_frame)), -1).indices
    sums |= _matching(top, frame, patch, grid, layout, matches)
    return {name: value.cpu() for name, value in sums.items()}


def _by_distance(per_frame: Tensor, frame: Tensor, layout: TokenLayout) -> dict[str, Tensor]:
    """Mass on frames [Q, S], and how many frames there were, at each distance from the query's frame.

    Attention to the reference frame from others is left out: it would dominate the largest distances of a
    short scene.
    """
    key_frame = torch.arange(layout.frames, device=frame.device)
    counted = torch.ones_like(per_frame)
    if layout.reference_frame is not None:
        counted[:, layout.reference_frame] = (frame == layout.reference_frame).float()
    distance = (frame[:, None] - key_frame).abs().flatten()
    nothing = torch.zeros(layout.frames, device=frame.device)
    return {
        "distance": nothing.index_add(0, distance, (per_frame * counted).flatten()),
        "pairs": nothing.index_add(0, distance, counted.flatten()),
    }


def _below(weights: Tensor, share: float) -> Tensor:
    """Share of keys under `share` times the uniform weight, summed over queries."""
    # Uniform weights equal the limit up to rounding, which must not count as below.
    return (weights * weights.shape[-1] < share * (1 - 1e-4)).float().mean((0, 2)).sum()


def _keys_for(weights: Tensor, share: float) -> Tensor:
    """Share of keys, heaviest first, whose weights add up to `share`."""
    running = weights.sort(-1, descending=True).values.cumsum(-1)
    return ((running < share).sum(-1) + 1).float() / weights.shape[-1]


def _matching(
    top: Tensor, frame: Tensor, patch: Tensor, grid: tuple[int, int], layout: TokenLayout, matches: Matches
) -> dict[str, Tensor]:
    """Whether the strongest keys of other frames [H, Q, k] show the surface point of the query."""
    columns, count = grid[1], layout.patches_per_frame
    if layout.frames < 2:
        zero = torch.zeros(())
        return {"same_row": zero, "same_place": zero, "seen": zero, "match": torch.zeros(len(top)),
                "match_top8": zero, "chance": zero}  # fmt: skip
    key_frame, key_patch = top // count, top % count
    key_row, key_column = key_patch // columns, key_patch % columns
    place, visible = matches.place, matches.visible
    query_frame = frame[None, :, None].expand_as(top)
    query_patch = patch[None, :, None].expand_as(top)
    here = place[query_frame, key_frame, query_patch]
    near = ((key_column - here[..., 0]).abs() <= 1) & ((key_row - here[..., 1]).abs() <= 1)
    right = near & visible[query_frame, key_frame, query_patch]
    elsewhere = visible[frame, :, patch] & (torch.arange(layout.frames, device=top.device) != frame[:, None])
    seen = elsewhere.any(1)
    same_row = key_row[..., 0] == patch // columns
    same_place = key_patch[..., 0] == patch
    # Patches within one of the true place: nine inside, fewer at an edge; nine is an upper bound of chance.
    chance = 9.0 * elsewhere.sum(1) / ((layout.frames - 1) * count)
    return {
        "same_row": same_row.float().mean(0).sum(),
        "same_place": same_place.float().mean(0).sum(),
        "seen": seen.sum().float(),
        "match": (right[..., 0] & seen).float().sum(1),
        "match_top8": (right.float().mean(-1) * seen).mean(0).sum(),
        "chance": (chance * seen).sum(),
    }


def _cosines(x: Float[Tensor, "heads tokens dim"], layout: TokenLayout) -> dict[str, Float[Tensor, " heads"]]:
    """Mean cosine of each head over three kinds of pairs of patches; NaN where there is no such pair.

    It bounds merging (HTTM, arXiv 2511.21317). `neighbour`: right neighbour in the same frame;
    `next_frame`: same place a frame later; `random`: any two patches of two different frames.
    """
    unit = torch.nn.functional.normalize(x.float(), dim=-1)
    frames = unit.unflatten(1, (layout.frames, -1))[:, :, layout.special_tokens :].unflatten(2, layout.grid)
    beside = (frames[..., 1:, :] * frames[..., :-1, :]).sum(-1).flatten(1).mean(1)
    later = (frames[:, 1:] * frames[:, :-1]).sum(-1).flatten(1).mean(1)
    # The mean over all pairs of different frames, from the sums of frames.
    sums = frames.sum((2, 3))
    pairs = sums.sum(1).square().sum(-1) - sums.square().sum((1, 2))
    count = layout.frames * (layout.frames - 1) * layout.patches_per_frame**2
    everywhere = pairs / count if count else torch.full_like(pairs, torch.nan)
    return dict(zip(_PAIRS, (part.cpu() for part in (beside, later, everywhere)), strict=True))
