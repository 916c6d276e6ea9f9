"""The floors: traffic, memory and growth, against figures worked out by hand."""

from __future__ import annotations

import pytest
import torch

from manyview.attention.layout import TokenLayout
from manyview.bench.floors import (
    EAGER_UNITS,
    FUSED_UNITS,
    measure_copy,
    memory_floor_bytes,
    slope,
    traffic_bytes,
)
from manyview.models.vggt.config import VGGT_1B

LAYOUT = TokenLayout(1000, 5, (28, 37))


@pytest.mark.parametrize("units, terabytes", [(EAGER_UNITS, 9.2), (FUSED_UNITS, 4.0)])
def test_traffic_of_a_thousand_frames(units, terabytes):
    # 2.13 GB a token tensor; 24 blocks of the encoder, 48 of the trunk.
    assert traffic_bytes(VGGT_1B, LAYOUT, 2, units) / 1e12 == pytest.approx(terabytes, rel=0.01)


def test_least_memory_of_a_frame():
    # 5 x 2.13 of tokens, 5.83 of taps, 1.22 of image, 1.62 of depth and confidence: 19.3 MB.
    for frames in (1, 1000):
        layout = TokenLayout(frames, 5, (28, 37))
        least = memory_floor_bytes(VGGT_1B, layout, 2, ("camera", "depth")) / frames / 1e6
        assert least == pytest.approx(19.3, abs=0.1)
    cameras = memory_floor_bytes(VGGT_1B, LAYOUT, 2, ("camera",)) / 1000 / 1e6
    assert cameras == pytest.approx(5 * 2.13 + 1.22, abs=0.05)


def test_slope_is_the_growth_per_frame_and_needs_two_points():
    assert slope([2, 4, 10], [70.0, 90.0, 150.0]) == pytest.approx(10)
    assert slope([1, 2, 3], [0.0, 1.0, 8.0]) == pytest.approx(4)  # least squares, not the ends alone
    assert slope([4], [1.0]) is None and slope([4, 4], [1.0, 2.0]) is None and slope([], []) is None


def test_a_copy_is_faster_than_a_disk_and_slower_than_light():
    assert 1e8 < measure_copy(torch.device("cpu"), seconds=0.01) < 1e13
