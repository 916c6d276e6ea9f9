"""Matches that no camera is fitted to: whole feature tracks are withheld, so that nothing of them leaks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int64

from .pairs import Pair

SHARE = 0.1
"""Of the tracks that are withheld."""
MOST_PER_PAIR = 50
"""Withheld matches of one pair that are kept."""


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """Places of all views in one row; feature f of view v is node `start[v] + f`.

    Features of one view at the same place (SIFT gives a place several orientations) are one node: the first.
    """

    start: Int64[np.ndarray, " views_and_one"]
    node: Int64[np.ndarray, " features"]
    pixels: Float[np.ndarray, "features 2"]

    @classmethod
    def of(cls, pixels: list[Float[np.ndarray, "_ 2"]]) -> Features:
        """Of the places of each view's features."""
        start = np.cumsum([0, *(len(each) for each in pixels)])
        node = []
        for offset, places in zip(start[:-1], pixels, strict=True):
            _, first, inverse = np.unique(places, axis=0, return_index=True, return_inverse=True)
            node.append(offset + first[inverse.reshape(-1)] if len(places) else np.empty(0, np.int64))
        joined = np.concatenate([np.empty((0, 2)), *pixels])
        return cls(start.astype(np.int64), np.concatenate([np.empty(0, np.int64), *node]), joined)


def split_matches(
    features: Features, matches: Mapping[Pair, Int64[np.ndarray, "_ 2"]], seed: int
) -> tuple[dict[Pair, Int64[np.ndarray, "_ 2"]], dict[Pair, Int64[np.ndarray, "_ 2"]]]:
    """(matches to map with, matches withheld) of each pair, as nodes of `features`, no node in both.

    Tracks are connected components of all matches. Those that hold two places of one view are wrong
    somewhere, and are not withheld.
    """
    edges = {
        (i, j): np.unique(features.node[features.start[[i, j]] + found], axis=0)
        for (i, j), found in matches.items()
    }
    edges = {pair: found for pair, found in edges.items() if len(found)}
    label = connected_components(len(features.node), list(edges.values()))
    withheld = _withheld(features, label, edges, seed)
    mapped, kept = {}, {}
    for pair, found in edges.items():
        held = withheld[label[found[:, 0]]]
        mapped[pair], kept[pair] = found[~held], found[held]
    return mapped, kept


def connected_components(nodes: int, edges: list[Int64[np.ndarray, "_ 2"]]) -> Int64[np.ndarray, " nodes"]:
    """The smallest node of each node's component."""
    label = np.arange(nodes)
    joined = np.concatenate([np.empty((0, 2), np.int64), *edges])
    while True:
        ends = label[joined]
        least = ends.min(1) if len(ends) else np.empty(0, np.int64)
        changed = ends.max(1, initial=0) != least if len(ends) else np.empty(0, bool)
        if not changed.any():
            return label
        np.minimum.at(label, ends[changed].max(1), least[changed])
        while (label[label] != label).any():
            label = label[label]


def _withheld(
    features: Features,
    label: Int64[np.ndarray, " n"],
    edges: Mapping[Pair, Int64[np.ndarray, "_ 2"]],
    seed: int,
) -> Bool[np.ndarray, " n"]:
    """True for the labels of components that are withheld."""
    used = np.unique(
        np.concatenate([np.empty(0, np.int64), *(found.reshape(-1) for found in edges.values())])
    )
    view = np.searchsorted(features.start, used, side="right") - 1
    count = np.bincount(label[used], minlength=len(label))
    places = np.unique(np.stack([label[used], view]), axis=1)
    consistent = np.bincount(places[0], minlength=len(label)) == count
    candidates = np.flatnonzero(consistent & (count > 1))
    chosen = np.random.default_rng(seed).permutation(candidates)[: round(SHARE * len(candidates))]
    result = np.zeros(len(label), dtype=bool)
    result[chosen] = True
    return result
