"""Whole plans through a network, with kernels and with plain operations."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from manyview.attention.plan import Plan
from manyview.models.run_options import RunOptions

from ..models.tiny import TINY, tiny_vggt

pytest.importorskip("triton")

# The kernels that each plan must have gone through.
PLANS = {
    "avggt:early=0,stride=2x2,gain=1": "merge_terms",
    "httm:space=4,time=2": "copy_rows distances join_most_similar slot_means",
    "httm:q=0.5,kv=0.5,outliers=0,space=6,count_bias=1,anchor=true": "copy_rows join_most_similar slot_means",
    "fastvggt": "copy_rows join_most_similar",
    "flash:r=2,causal=true": "merge_terms",
    "anchors:frames=1,own_frame=true": "merge_terms",
    "spark3r:q=2,r=2,group=2": "copy_rows join_most_similar",
}


@pytest.mark.parametrize("spec", PLANS)
def test_a_plan_gives_the_same_with_kernels(device, calls, spec):
    from manyview.kernels import merge, merge_means, merge_outliers, merge_terms

    calls(merge_terms, "merge_terms")
    calls(merge, "join_most_similar")
    calls(merge_means, "slot_means")
    taken = calls(merge_outliers, "distances", "copy_rows")
    model = tiny_vggt(config=dataclasses.replace(TINY, depth=1, taps=(0, 0, 0, 0))).to(device)
    images = torch.rand(1, 3, 3, 28, 42, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():
        want, got = (
            model(images, Plan.parse(spec, 1), options=RunOptions(heads=("depth",), kernels=kernels))
            for kernels in ("plain", "triton")
        )
    for name in ("z_depth", "depth_conf"):
        torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=2e-4, atol=2e-4)
    assert sorted(taken) == PLANS[spec].split()
