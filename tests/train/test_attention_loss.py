"""Attention supervision against a twin that materialises every target."""

from __future__ import annotations

import pytest
import torch

from manyview.train.attention_loss import SoftMatches, attention_loss, soft_matches


def test_soft_matches_place_a_pixel_between_patches() -> None:
    first = torch.tensor([4.5, 4.5])
    # x lies a quarter of the way from patch column 1 to 2, y exactly on row 1 (3 rows, 4 columns).
    pixels = torch.tensor([4.5 + 8 * 1.25, 4.5 + 8]).expand(1, 1, 1, 1, 2)
    found = soft_matches(pixels, torch.ones(1, 1, 1, 1, dtype=torch.bool), (3, 4), 8, first)
    dense = torch.zeros(12).scatter_add(0, found.index.flatten(), found.weight.flatten())
    expected = torch.zeros(12)
    expected[4 + 1], expected[4 + 2] = 0.75, 0.25
    torch.testing.assert_close(dense, expected)


@pytest.mark.parametrize("grid", [(3, 4), (1, 5), (5, 1), (1, 1)])
def test_soft_matches_stay_inside_and_add_up_to_one(grid: tuple[int, int]) -> None:
    pixels = torch.rand(2, 3, grid[0] * grid[1], 3, 2) * 100 - 30
    visible = torch.rand(pixels.shape[:-1]) > 0.3
    found = soft_matches(pixels, visible, grid, 8, torch.tensor([4.5, 4.5]))
    assert int(found.index.min()) >= 0 and int(found.index.max()) < grid[0] * grid[1]
    torch.testing.assert_close(found.weight.sum(-1), torch.ones(visible.shape))


def random_matches(batch: int, frames: int, patches: int) -> SoftMatches:
    index = torch.randint(patches, (batch, frames, patches, frames, 4))
    weight = torch.rand(index.shape)
    visible = torch.rand(index.shape[:-1]) > 0.4
    return SoftMatches(index, weight / weight.sum(-1, keepdim=True), visible)


def slow_loss(q: torch.Tensor, k: torch.Tensor, matches: SoftMatches, special: int) -> torch.Tensor:
    """The same quantity, query by query."""
    batch, frames, patches = matches.visible.shape[:3]
    per_frame = special + patches
    firsts, others = [], []

    def token(frame: int, patch: int) -> int:
        return frame * per_frame + special + patch

    for b in range(batch):
        for s in range(frames):
            for p in range(patches):
                row = token(s, p)
                every = [token(t, n) for t in range(frames) for n in range(patches)]
                outside = [token(t, n) for t in range(frames) for n in range(patches) if t != s]
                for head, keys, seen, into in (
                    (0, every, [0] if s > 0 and matches.visible[b, s, p, 0] else [], firsts),
                    (
                        1,
                        outside,
                        [t for t in range(frames) if t != s and matches.visible[b, s, p, t]],
                        others,
                    ),
                ):
                    if not seen:
                        continue
                    scores = (
                        torch.stack([q[b, head, row] @ k[b, head, c] for c in keys]) * q.shape[-1] ** -0.5
                    )
                    logs = dict(zip(keys, scores.log_softmax(0)))
                    value = torch.zeros((), dtype=q.dtype)
                    for t in seen:
                        for i, w in zip(matches.index[b, s, p, t], matches.weight[b, s, p, t]):
                            value = value - w * logs[token(t, int(i))] / len(seen)
                    into.append(value)
    return 0.5 * (torch.stack(firsts).mean() + torch.stack(others).mean())


def test_attention_loss_is_the_slow_one_forward_and_backward() -> None:
    frames, patches, special = 3, 4, 2
    matches = random_matches(2, frames, patches)
    q = torch.randn(2, 3, frames * (special + patches), 8, requires_grad=True)
    k = torch.randn_like(q, requires_grad=True)
    fast, slow = attention_loss(q, k, matches, special), slow_loss(q, k, matches, special)
    torch.testing.assert_close(fast, slow)
    for a, b in zip(torch.autograd.grad(fast, (q, k)), torch.autograd.grad(slow, (q, k))):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_attention_loss_falls_when_queries_meet_their_match() -> None:
    patches = 6
    content = torch.eye(patches, 16)
    index = torch.arange(patches).view(1, 1, patches, 1, 1).expand(1, 2, patches, 2, 4)
    matches = SoftMatches(
        index, torch.full(index.shape, 0.25), torch.ones(1, 2, patches, 2, dtype=torch.bool)
    )
    keys = torch.cat([content, content]).expand(1, 2, -1, -1)
    sharp = attention_loss(40 * keys, keys, matches, 0)
    flat = attention_loss(0 * keys, keys, matches, 0)
    # Head 0 cannot tell the equal patch of frame 0 from its own: one bit remains of it.
    assert float(sharp) == pytest.approx(0.5 * torch.tensor(2.0).log().item(), abs=1e-2)
    assert float(flat) == pytest.approx(0.5 * torch.tensor(12.0 * 6.0).log().item(), abs=1e-4)


def test_a_sample_of_queries_estimates_the_loss_of_all() -> None:
    matches = random_matches(2, 3, 16)
    q, k = torch.randn(2, 2, 3 * 18, 8), torch.randn(2, 2, 3 * 18, 8)
    whole = attention_loss(q, k, matches, 2)
    assert torch.equal(attention_loss(q, k, matches, 2, most_queries=48), whole)
    sampled = attention_loss(q, k, matches, 2, most_queries=40)
    assert sampled != whole
    assert float(sampled) == pytest.approx(float(whole), rel=0.15)
    assert torch.equal(sampled, attention_loss(q, k, matches, 2, most_queries=40))


def test_nothing_visible_is_zero() -> None:
    matches = random_matches(1, 2, 3)
    matches = SoftMatches(matches.index, matches.weight, torch.zeros_like(matches.visible))
    q = torch.randn(1, 2, 6, 8)
    assert float(attention_loss(q, q, matches, 0)) == 0.0
