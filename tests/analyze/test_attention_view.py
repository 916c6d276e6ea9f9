"""Numbers of a layer on queries and keys whose attention is known."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from manyview.analyze.attention_view import view_layer
from manyview.analyze.matches import Matches
from manyview.analyze.rotation_probe import follows, strongest_patches
from manyview.analyze.tiles import sample_queries
from manyview.attention.layout import TokenLayout

LAYOUT = TokenLayout(3, 2, (4, 5))
COUNT = LAYOUT.patches_per_frame
ALL = torch.stack([torch.arange(3 * COUNT) // COUNT, torch.arange(3 * COUNT) % COUNT], 1)


def _shifted_matches() -> Matches:
    """Patch (row, column) of frame s lies at (row, column + t - s) in frame t, if inside."""
    row, column = torch.arange(COUNT) // 5, torch.arange(COUNT) % 5
    frame = torch.arange(3)
    moved = column + (frame[None, :, None] - frame[:, None, None])
    place = torch.stack([moved, row.expand_as(moved)], -1).float()
    return Matches(place, (moved >= 0) & (moved < 5))


def _one_hot(scale: float, of_patch) -> torch.Tensor:
    """Tokens [1, N, 64] whose patch p of frame f is one-hot at `of_patch(f, p)`, specials zero."""
    x = torch.zeros(1, LAYOUT.tokens, 64)
    for f in range(3):
        for p in range(COUNT):
            code = of_patch(f, p)
            if code is not None:
                x[0, f * LAYOUT.tokens_per_frame + 2 + p, code] = scale
    return x


def _content(f: int, p: int) -> int:
    return (p // 5) * 9 + p % 5 - f + 2  # equal for matching patches


def test_attention_to_true_matches_is_seen_as_such():
    x = _one_hot(30.0, _content)
    found = view_layer(x, x, LAYOUT, ALL, _shifted_matches())
    assert found.numbers.match_top1 == 1.0 and found.match_by_head.tolist() == [1.0]
    assert found.numbers.entropy < 0.3 and found.numbers.mass_special < 1e-6
    assert found.numbers.same_place < 0.2 < found.numbers.same_row


def test_attention_to_the_same_place_is_position():
    x = _one_hot(30.0, lambda f, p: p)
    found = view_layer(x, x, LAYOUT, ALL, _shifted_matches()).numbers
    assert found.same_place == 1.0 and found.same_row == 1.0


def test_uniform_attention():
    zero = torch.zeros(2, LAYOUT.tokens, 8)
    found = view_layer(zero, zero, LAYOUT, ALL, _shifted_matches()).numbers
    assert found.entropy == pytest.approx(1.0)
    assert found.keys_for_90 == pytest.approx(math.ceil(0.9 * LAYOUT.tokens) / LAYOUT.tokens, abs=0.02)
    assert found.below_uniform == found.below_tenth == found.below_hundredth == 0.0
    assert found.mass_own_patch == pytest.approx(1 / LAYOUT.tokens)
    assert found.mass_special == pytest.approx(6 / LAYOUT.tokens)


def test_masses_equal_a_materialised_softmax_and_tiles_do_not_matter():
    torch.manual_seed(0)
    q, k = torch.randn(2, 2, LAYOUT.tokens, 8)
    queries = sample_queries(LAYOUT, 30, 1)
    found = view_layer(q, k, LAYOUT, queries, _shifted_matches())
    weights = (q.double() @ k.double().transpose(1, 2) / 8**0.5).softmax(-1).mean(0)
    weights = weights.unflatten(-1, (3, -1)).unflatten(0, (3, -1))[:, 2:]
    own, reference, others, special, patch = 0.0, 0.0, 0.0, 0.0, 0.0
    for f, p in queries.tolist():
        w = weights[f, p]
        special += w[:, :2].sum()
        patch += w[f, 2 + p]
        own += w[f, 2:].sum() - w[f, 2 + p]
        reference += w[0, 2:].sum() if f else 0.0
        others += sum(w[g, 2:].sum() for g in range(1, 3) if g != f)
    n = found.numbers
    for value, want in (
        (n.mass_special, special), (n.mass_own_patch, patch), (n.mass_own_frame, own),
        (n.mass_reference, reference), (n.mass_other_frames, others),
    ):  # fmt: skip
        assert value == pytest.approx(float(want) / 30, abs=1e-6)
    tiled = view_layer(q, k, LAYOUT, queries, _shifted_matches(), scores_at_once=7 * 2 * LAYOUT.tokens)
    for name, value in dataclasses.asdict(n).items():
        assert getattr(tiled.numbers, name) == pytest.approx(value, abs=1e-6), name
    torch.testing.assert_close(tiled.mass_by_distance, found.mass_by_distance)
    by_frame = torch.stack([weights[f, p, :, 2:].sum(-1) for f, p in queries.tolist()])
    distance = (queries[:, :1] - torch.arange(3)).abs()
    distance[queries[:, 0] > 0, 0] = -1  # the reference frame counts as itself, not by its distance
    for d in range(3):
        assert float(found.mass_by_distance[d]) == pytest.approx(
            float(by_frame[distance == d].mean()), abs=1e-6
        )


def test_sharpness_and_matches_equal_plain_counting():
    torch.manual_seed(1)
    q, k = 2 * torch.randn(2, 2, LAYOUT.tokens, 8)
    matches = _shifted_matches()
    n = view_layer(q, k, LAYOUT, ALL, matches).numbers
    weights = (q.double() @ k.double().transpose(1, 2) / 8**0.5).softmax(-1)
    frames = weights.unflatten(-1, (3, -1)).unflatten(1, (3, -1))[:, :, 2:]
    needed, below, rows, hits, hits8, seen = [], [], [], [], [], 0
    for head in range(2):
        for f, p in ALL.tolist():
            w = frames[head, f, p].flatten()
            order, total, count = w.sort(descending=True).values.tolist(), 0.0, 0
            while total < 0.9:
                total, count = total + order[count], count + 1
            needed.append(count / len(w))
            below.append(float((w < 0.1 / len(w)).double().mean()))
            pairs = [
                (float(frames[head, f, p, g, 2 + j]), g, j) for g in range(3) if g != f for j in range(COUNT)
            ]
            best = sorted(pairs, reverse=True)[:8]
            rows.append(best[0][2] // 5 == p // 5)
            if not any(matches.visible[f, g, p] for g in range(3) if g != f):
                continue
            seen += 1
            right = [
                bool(matches.visible[f, g, p])
                and abs(j // 5 - matches.place[f, g, p, 1]) <= 1
                and abs(j % 5 - matches.place[f, g, p, 0]) <= 1
                for _, g, j in best
            ]
            hits.append(right[0])
            hits8.append(sum(right) / 8)
    assert 0 < seen < 2 * len(ALL)
    for value, want in (
        (n.keys_for_90, sum(needed) / len(needed)), (n.below_tenth, sum(below) / len(below)),
        (n.same_row, sum(rows) / len(rows)), (n.match_top1, sum(hits) / seen),
        (n.match_top8, sum(hits8) / seen),
    ):  # fmt: skip
        assert value == pytest.approx(float(want), abs=1e-5)


def test_cosines_are_means_over_pairs():
    torch.manual_seed(0)
    q = torch.randn(1, LAYOUT.tokens, 8)
    other = torch.ones(1, LAYOUT.tokens, 8)
    n = view_layer(q, q, LAYOUT, ALL, _shifted_matches()).numbers
    heads = view_layer(torch.cat([q, other]), torch.cat([other, q]), LAYOUT, ALL, _shifted_matches())
    for kind in ("neighbour", "next_frame", "random"):
        alike = getattr(n, f"cos_q_{kind}")
        assert heads.cosines_by_head[f"cos_q_{kind}"].tolist() == pytest.approx([alike, 1.0], abs=1e-6)
        assert heads.cosines_by_head[f"cos_k_{kind}"].tolist() == pytest.approx([1.0, alike], abs=1e-6)
    unit = torch.nn.functional.normalize(q[0], dim=-1).unflatten(0, (3, -1))[:, 2:]
    products = torch.einsum("fpc,gqc->fgpq", unit, unit)
    random = (products.sum() - sum(products[f, f].sum() for f in range(3))) / (6 * COUNT**2)
    assert n.cos_q_random == pytest.approx(float(random), abs=1e-6)
    later = torch.stack([products[f, f + 1].diagonal().mean() for f in range(2)]).mean()
    assert n.cos_q_next_frame == pytest.approx(float(later), abs=1e-6) == n.cos_k_next_frame


@pytest.mark.parametrize("driven_by", ["content", "place"])
def test_the_rotation_probe_separates_content_from_position(driven_by):
    rotated = torch.tensor([False, True, False])

    def code(f, p, now):
        moved = now and rotated[f] and driven_by == "content"
        return COUNT - 1 - p if moved else p  # what is seen, or where it is seen

    upright, after = (_one_hot(9.0, lambda f, p, now=now: code(f, p, now)) for now in (False, True))
    strongest = [strongest_patches(x, x, LAYOUT, ALL, rotated) for x in (upright, after)]
    assert strongest[0].shape == (1, 2 * COUNT, 1)  # queries of upright frames, keys of the rotated one
    found = follows(strongest[0], strongest[1], LAYOUT.grid)
    assert found == ((1.0, 0.0) if driven_by == "content" else (0.0, 1.0))


def test_the_rotation_probe_leaves_out_what_a_turn_hardly_moves():
    middle = torch.full((1, 4, 1), 4)  # the centre of three by three turns into itself
    assert all(math.isnan(share) for share in follows(middle, middle, (3, 3)))


def test_a_single_frame_has_no_matches():
    layout = TokenLayout(1, 2, (4, 5))
    x = torch.randn(1, layout.tokens, 8)
    place = torch.stack([torch.arange(COUNT) % 5, torch.arange(COUNT) // 5], -1).float()[None, None]
    matches = Matches(place, torch.ones(1, 1, COUNT, dtype=torch.bool))
    n = view_layer(x, x, layout, sample_queries(layout, 9, 0), matches).numbers
    assert math.isnan(n.match_top1) and n.mass_other_frames == pytest.approx(0.0, abs=1e-6)
