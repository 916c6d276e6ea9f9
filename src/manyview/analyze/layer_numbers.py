"""Numbers of one global layer, and their mean over scenes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class LayerNumbers:
    """Attention of one layer, averaged over heads, sampled patch queries and scenes; shares from 0 to 1.

    `mass_*` add up to one: the query's patch, the other patches of its frame, the patches of the reference
    frame (0 for queries of that frame), those of other frames, special tokens of all frames. `match_*` are
    shares of the k strongest keys among other frames' patches that show the same surface point (at most one
    patch away), for queries seen elsewhere: mean of the heads, and the best head. `same_row` and
    `same_place`: whether the strongest key has the row, or the position, of the query. `entropy` is divided
    by the log of the number of keys; `keys_for_90` is the smallest share of keys that holds 90 % of the
    mass, `below_*` the share of keys under the uniform weight, a tenth and a hundredth of it. `cos_*` are
    mean cosines of pairs of queries (keys): see `attention_view`.
    """

    mass_own_patch: float
    mass_own_frame: float
    mass_reference: float
    mass_other_frames: float
    mass_special: float
    match_top1: float
    match_top1_best_head: float
    match_top8: float
    match_chance: float
    same_row: float
    same_place: float
    entropy: float
    keys_for_90: float
    below_uniform: float
    below_tenth: float
    below_hundredth: float
    cos_q_neighbour: float
    cos_q_next_frame: float
    cos_q_random: float
    cos_k_neighbour: float
    cos_k_next_frame: float
    cos_k_random: float


@dataclasses.dataclass(frozen=True)
class LayerView:
    """`numbers`, and curves: mean mass of a frame's patches at each distance in frames (without attention to
    the reference frame from others; NaN where no query was that far from any frame), and by head the match
    share and the cosines (names as in `numbers`)."""

    numbers: LayerNumbers
    mass_by_distance: Float[Tensor, " distances"]
    match_by_head: Float[Tensor, " heads"]
    cosines_by_head: dict[str, Float[Tensor, " heads"]]


def mean_view(views: Sequence[LayerView]) -> LayerView:
    """Mean over scenes; curves are cut to the scene with the fewest frames."""
    names = [field.name for field in dataclasses.fields(LayerNumbers)]
    values = {
        name: torch.tensor([getattr(view.numbers, name) for view in views]).nanmean().item() for name in names
    }
    shortest = min(len(view.mass_by_distance) for view in views)
    return LayerView(
        LayerNumbers(**values),
        torch.stack([view.mass_by_distance[:shortest] for view in views]).nanmean(0),
        torch.stack([view.match_by_head for view in views]).nanmean(0),
        {
            name: torch.stack([view.cosines_by_head[name] for view in views]).nanmean(0)
            for name in views[0].cosines_by_head
        },
    )
