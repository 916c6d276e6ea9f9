"""The track head: its parts against slow twins, and what must hold for any weights."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from manyview.errors import UsageError
from manyview.models.run_options import RunOptions
from manyview.models.vggt.config import TrackHeadConfig
from manyview.models.vggt.track_head import TrackHead
from manyview.models.vggt.tracker import correlation
from manyview.models.vggt.tracker.correlation import local_correlation, pyramid, sample_bilinear
from manyview.models.vggt.tracker.embeddings import flow_embedding, position_table

from .tiny import TINY, tiny_vggt

CONFIG = TrackHeadConfig(
    features=16, out_channels=(8, 8, 16, 16), hidden_size=24, corr_levels=3, virtual_tracks=5, num_heads=4
)
TRACKING = dataclasses.replace(TINY, track_head=CONFIG)
HEADS = RunOptions(heads=("track",))


def bilinear(image: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Value of [C, H, W] at (x, y), zero outside: one point, four neighbours."""
    total = image.new_zeros(image.shape[0])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                total += (1 - abs(x - column)) * (1 - abs(y - row)) * image[:, row, column]
    return total


def test_correlation_against_loops():
    maps = torch.randn(2, 6, 9, 11, dtype=torch.float64)
    targets = torch.randn(2, 4, 6, dtype=torch.float64)
    coords = torch.rand(2, 4, 2, dtype=torch.float64) * torch.tensor([14.0, 12.0]) - 1.5
    radius, levels = 2, pyramid(maps, 3)
    assert [tuple(level.shape[-2:]) for level in levels] == [(9, 11), (4, 5), (2, 2)]
    fast = local_correlation(levels, targets, coords, radius)
    for b in range(2):
        for n in range(4):
            slow = []
            for i, level in enumerate(levels):
                x, y = (coords[b, n] / 2**i).tolist()
                for dx in range(-radius, radius + 1):
                    for dy in range(-radius, radius + 1):
                        slow.append(bilinear(level[b], x + dx, y + dy) @ targets[b, n] / math.sqrt(6))
            torch.testing.assert_close(fast[b, n], torch.stack(slow), rtol=1e-10, atol=1e-12)


def test_correlation_in_pieces(monkeypatch):
    levels = pyramid(torch.randn(1, 4, 8, 8), 2)
    targets, coords = torch.randn(1, 11, 4), torch.rand(1, 11, 2) * 8
    whole = local_correlation(levels, targets, coords, 1)
    monkeypatch.setattr(correlation, "_POINTS_AT_ONCE", 3)
    torch.testing.assert_close(local_correlation(levels, targets, coords, 1), whole)


def test_samples_clamp_at_the_border_or_fade_to_zero():
    ramp = torch.arange(12.0, dtype=torch.float64).reshape(1, 1, 3, 4)
    points = torch.tensor(
        [[[0.0, 0.0], [3.0, 2.0], [1.5, 1.0], [-5.0, 0.0], [3.5, 2.0]]], dtype=torch.float64
    )
    border = sample_bilinear(ramp, points, "border")[0, :, 0]
    zeros = sample_bilinear(ramp, points, "zeros")[0, :, 0]
    torch.testing.assert_close(border, torch.tensor([0.0, 11.0, 5.5, 0.0, 11.0], dtype=torch.float64))
    torch.testing.assert_close(zeros, torch.tensor([0.0, 11.0, 5.5, 0.0, 5.5], dtype=torch.float64))


def test_embeddings_against_their_formulas():
    flow = torch.tensor([[0.25, -1.5]], dtype=torch.float64)
    expected = []
    for value in (0.25, -1.5):
        for frequency in (0.0, 250.0, 500.0, 750.0):
            expected += [math.sin(value * frequency), math.cos(value * frequency)]
    torch.testing.assert_close(flow_embedding(flow, 8)[0], torch.tensor(expected, dtype=torch.float64))
    table = position_table(8, 5, 7)
    x, y = 6, 3
    at = [math.sin(x), math.sin(x / 100), math.cos(x), math.cos(x / 100)]
    at += [math.sin(y), math.sin(y / 100), math.cos(y), math.cos(y / 100)]
    torch.testing.assert_close(table[0, :, y, x], torch.tensor(at))


def run(model, images, queries):
    with torch.no_grad():
        answer = model(images, options=HEADS, query_points=queries)
    return torch.cat(
        [*answer.track_list, answer.track_visibility[..., None], answer.track_confidence[..., None]], -1
    )


def pictures(batch: int, frames: int = 3) -> torch.Tensor:
    return torch.rand(batch, frames, 3, 42, 56, generator=torch.Generator().manual_seed(5)).double()


def points(batch: int, count: int = 6) -> torch.Tensor:
    spread = torch.rand(batch, count, 2, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    return spread * torch.tensor([56.0, 42.0])


def test_tracks_of_a_model():
    model = tiny_vggt(torch.float64, TRACKING)
    answer = model(pictures(2), options=HEADS, query_points=points(2))
    assert answer.tracks.shape == (2, 3, 6, 2) and len(answer.track_list) == CONFIG.iterations
    for tracks in answer.track_list:
        torch.testing.assert_close(tracks[:, 0], points(2), rtol=0, atol=1e-12)
        assert (tracks[:, 1:] - points(2)[:, None]).abs().max() > 1e-3
    for share in (answer.track_visibility, answer.track_confidence):
        assert share.shape == (2, 3, 6) and share.min() > 0 and share.max() < 1
    answer.tracks[:, 1:].sum().backward()
    assert model.track_head.tracker.corr_mlp.fc1.weight.grad.abs().max() > 0
    assert model.track_head.feature_extractor.projects[0].weight.grad.abs().max() > 0


def test_tracks_do_not_depend_on_their_order_or_on_the_batch():
    model = tiny_vggt(torch.float64, TRACKING)
    both = run(model, pictures(2), points(2))
    # Rounding grows a thousandfold in each of the four iterations: see flow_embedding.
    torch.testing.assert_close(run(model, pictures(2)[1:], points(2)[1:]), both[1:], rtol=1e-6, atol=1e-6)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    shuffled = run(model, pictures(2), points(2)[:, order])
    torch.testing.assert_close(shuffled, both[:, :, order], rtol=1e-6, atol=1e-6)


def test_one_frame_and_one_point():
    model = tiny_vggt(torch.float64, TRACKING)
    answer = model(pictures(1, frames=1), options=HEADS, query_points=points(1, count=1))
    torch.testing.assert_close(answer.tracks[:, 0], points(1, count=1))


def test_fewer_iterations_are_a_prefix():
    head = TrackHead(32, CONFIG).double().eval()
    features = torch.randn(1, 3, 16, 21, 28, dtype=torch.float64)
    with torch.no_grad():
        full, short = head(features, points(1)), head(features, points(1), iterations=2)
    assert len(short.coords) == 2 and all(
        torch.equal(a, b) for a, b in zip(short.coords, full.coords, strict=False)
    )
    with pytest.raises(UsageError, match="at least one iteration"):
        head(features, points(1), iterations=0)


def test_half_precision_features_still_track_in_single_precision():
    model = tiny_vggt(config=TRACKING)
    images, queries = pictures(1).float(), points(1).float()
    options = RunOptions(dtype=torch.bfloat16, heads=("track",))
    with torch.no_grad():
        answer = model(images, options=options, query_points=queries)
    assert answer.tracks.dtype == torch.float32
    torch.testing.assert_close(answer.tracks[:, 0], queries)


@pytest.mark.parametrize(
    ("size", "queries", "words"),
    [
        ((42, 56), None, "needs query_points"),
        ((42, 56), torch.zeros(2, 2), r"shape \[B, N, 2\]"),
        ((42, 56), torch.zeros(1, 0, 2), r"shape \[B, N, 2\]"),
        ((28, 28), torch.zeros(1, 1, 2), "at least 32 pixels on each side, got 28x28"),
        ((42, 56), torch.zeros(3, 4, 2), "there are 1 scenes, but query_points for 3"),
    ],
)
def test_misuse_raises_before_anything_runs(size, queries, words):
    config = dataclasses.replace(TRACKING, track_head=dataclasses.replace(CONFIG, corr_levels=5))
    with torch.device("meta"):
        model = tiny_vggt_on_meta(config)
    with pytest.raises(UsageError, match=words):
        model(torch.zeros(1, 2, 3, *size), options=HEADS, query_points=queries)


def tiny_vggt_on_meta(config):
    """Weights without numbers: reaching them would be an error of another kind."""
    from manyview.models.vggt.model import VGGT

    return VGGT(config)


def test_impossible_settings():
    with pytest.raises(ValueError, match="divisible by 4"):
        TrackHead(32, dataclasses.replace(CONFIG, features=18))
    with pytest.raises(ValueError, match="not a multiple"):
        TrackHead(32, dataclasses.replace(CONFIG, time_depth=5, space_depth=3))
