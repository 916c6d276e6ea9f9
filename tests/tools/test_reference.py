"""The straightforward twin computes what the library computes."""

from __future__ import annotations

import pytest
import torch
from tools.bench.reference import Straightforward

from manyview.bench.subject import random_model
from manyview.errors import UsageError
from manyview.models.run_options import RunOptions
from manyview.train.config import load_config
from tests.models.tiny import tiny_vggt

HEADS = ("camera", "depth", "points")


@pytest.mark.parametrize("shape", [(3, 3, 42, 56), (2, 2, 3, 56, 42), (1, 3, 28, 28)])
def test_twin_and_model_agree_to_rounding(shape):
    model = tiny_vggt(torch.float64)
    images = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    options = RunOptions(heads=HEADS)
    with torch.no_grad():
        ours = model(images, options=options)
        twin = Straightforward(model)(images, options=options)
    for name in ("pose_encoding", "z_depth", "depth_conf", "world_points", "world_points_conf"):
        # Tables of angles and of the image plane are single precision in both.
        torch.testing.assert_close(getattr(twin, name), getattr(ours, name), rtol=1e-4, atol=1e-5)


def test_twin_takes_the_small_size_and_pictures_of_bytes():
    model = random_model(load_config("small").model, torch.device("cpu"))
    images = torch.randint(0, 256, (3, 3, 40, 56), dtype=torch.uint8)
    with torch.no_grad():
        ours, twin = model(images), Straightforward(model)(images)
    torch.testing.assert_close(twin.pose_encoding, ours.pose_encoding, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(twin.z_depth, ours.z_depth, rtol=1e-3, atol=1e-4)


def test_another_family_is_refused():
    with pytest.raises(UsageError, match="VGGT"):
        Straightforward(torch.nn.Linear(1, 1))  # type: ignore[arg-type]
