"""Rays that run exactly along an axis: one component is zero and its reciprocal infinite."""

from __future__ import annotations

import torch

from manyview.synthetic.raycast import _slab


def test_a_ray_inside_a_slab_and_parallel_to_it_never_leaves_it():
    zero = torch.tensor([0.0, -0.0])
    enter, leave = _slab(torch.tensor([0.5, 0.5]), zero.reciprocal(), torch.tensor([2.0, 2.0]))
    assert (enter < -1e8).all() and (leave > 1e8).all()


def test_a_ray_outside_a_slab_and_parallel_to_it_never_meets_it_ahead():
    enter, leave = _slab(torch.tensor([5.0]), torch.tensor([0.0]).reciprocal(), torch.tensor([2.0]))
    assert not ((enter <= leave) & (enter > 0) & (enter < 1e8)).any()
