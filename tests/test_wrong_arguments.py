"""Arguments of a wrong kind in the Python interface: an error of ours that says what is expected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import manyview
from manyview.errors import UsageError
from tests.models.tiny import tiny_vggt

IMAGES = [np.full((28, 28, 3), 9, dtype=np.uint8)] * 2


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda: manyview.reconstruct(IMAGES, "manyview-smal"), "manyview-smal"),
        (lambda: manyview.reconstruct(IMAGES, 3), "int"),
        (lambda: manyview.reconstruct(IMAGES, tiny_vggt(), {"image_size": 28}), "options"),
        (lambda: manyview.reconstruct(IMAGES, tiny_vggt(), image_size="x"), "image_size"),
        (lambda: manyview.reconstruct(IMAGES, tiny_vggt(), precision=16), "precision"),
        (lambda: manyview.load(None), "NoneType"),
        (lambda: manyview.load(123), "int"),
        (lambda: manyview.load(device="cuda:99"), "cuda:99"),
        (lambda: manyview.load(device="no such"), "no such"),
        (lambda: manyview.load(device=3.5), "3.5"),
        (lambda: manyview.load(heads=3), "int"),
        (lambda: manyview.load("facebook/VGGT-1B", cache_dir=3), "int"),
        (lambda: manyview.stream(IMAGES, "manyview-smal"), "manyview-smal"),
        (lambda: manyview.stream(IMAGES, tiny_vggt(), chunk="x"), "chunk"),
        (lambda: manyview.stream(IMAGES, tiny_vggt(), image_size="x"), "image_size"),
    ],
)
def test_wrong_arguments(wrong: Any, named: str):
    with pytest.raises(UsageError, match=named):
        wrong()


def test_a_model_by_its_name_or_path(tmp_path):
    by_name = manyview.reconstruct(IMAGES, "manyview-small", image_size=32)
    network = manyview.load("manyview-small")
    np.testing.assert_array_equal(
        by_name.z_depth, manyview.reconstruct(IMAGES, network, image_size=32).z_depth
    )
    (update,) = manyview.stream(IMAGES, "manyview-small", image_size=32)
    assert len(update) == 2


@pytest.mark.parametrize("value", [255.0, float("nan"), -3.0, float("inf")])
def test_images_in_another_range(value: float):
    images = torch.rand(2, 3, 28, 28)
    images[1, 2, 3, 4] = value
    network = tiny_vggt()
    with pytest.raises(UsageError, match="0, 1"):
        network(images)
    with pytest.raises(UsageError, match="0, 1"):
        manyview.reconstruct(images, network)
    with pytest.raises(UsageError, match="0, 1"):
        list(manyview.stream(list(images), network))


def test_images_that_resizing_made():
    images = torch.rand(2, 3, 28, 28) * 1.2 - 0.1
    assert tiny_vggt()(images).z_depth.isfinite().all()
