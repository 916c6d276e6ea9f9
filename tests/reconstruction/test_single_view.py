"""Metres and sky by a network of single views: one factor for all lengths, refused where shapes differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from manyview.errors import UsageError
from manyview.models.network import Network, Predictions
from manyview.models.run_options import RunOptions
from manyview.reconstruction.result.load import load_reconstruction
from manyview.reconstruction.result.result import Reconstruction
from manyview.reconstruction.run.single_view import add_single_view, scaled
from tests.analytic_scene import crop_transform, fit_transform, pad_transform, room_scene

FACTOR = 2.5
FOCAL = 300.0
TRANSFORMS = [
    fit_transform((320, 240), (56, 56)),
    crop_transform((240, 320), (56, 56)),
    pad_transform((200, 320), (56, 56)),
]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is asked of the configuration of a network of single views."""

    metric_focal: float | None = FOCAL
    size_policy: str = "fit"
    image_size: int = 112
    patch_size: int = 14


class TrueDepth(Network):
    """Says the true depth of the room, FACTOR times as large, of the view whose image it recognises."""

    def __init__(self, scene: Reconstruction, error: Callable[[np.ndarray], np.ndarray]) -> None:
        torch.nn.Module.__init__(self)
        self.config: Any = Sizes()
        self.name = "true depth"
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self.scene, self.error, self.calls = scene, error, 0

    @property
    def available_heads(self) -> tuple[str, ...]:
        return ("depth", "sky")

    def forward(self, images: Tensor, plan: Any = None, options: RunOptions | None = None) -> Predictions:  # type: ignore[override]
        assert options is not None and options.heads == ("depth", "sky")
        height, width = images.shape[-2:]
        index, self.calls = self.calls, self.calls + 1
        left, top, right, bottom = self.scene.views[index].transform.content_box
        scale = width / (right - left), height / (bottom - top)
        focal = (self.scene.intrinsics[index].diagonal()[:2] * scale).mean()
        true = self.error(self.scene.z_depth[index, top:bottom, left:right].copy()) * FACTOR * FOCAL / focal
        depth = torch.nn.functional.interpolate(torch.tensor(true)[None, None].float(), (height, width))
        result = Predictions(height, width, None)  # type: ignore[arg-type]
        result.z_depth = depth
        result.sky = torch.zeros(1, 1, height, width, dtype=torch.bool)
        result.sky[..., : height // 4, :] = True
        return result


@pytest.fixture
def scene() -> Reconstruction:
    return room_scene(TRANSFORMS)[0]


@pytest.mark.usefixtures("unchecked")
def test_lengths_become_metres_and_nothing_else_changes(scene: Reconstruction, tmp_path: Any) -> None:
    found = add_single_view(scene, TrueDepth(scene, lambda depth: depth))
    assert found.metric is not None and found.metric["factor"] == pytest.approx(FACTOR, rel=0.02)
    factor = found.metric["factor"]
    np.testing.assert_allclose(found.z_depth, scene.z_depth * factor, rtol=1e-6)
    np.testing.assert_allclose(found.cam_from_world[:, :, 3], scene.cam_from_world[:, :, 3] * factor)
    np.testing.assert_array_equal(found.cam_from_world[:, :, :3], scene.cam_from_world[:, :, :3])
    np.testing.assert_allclose(found.world_points, scene.world_points * factor, rtol=1e-4, atol=1e-5)
    assert found.sky is None
    assert load_reconstruction(found.save(tmp_path / "out")).metric == found.metric


@pytest.mark.usefixtures("unchecked")
def test_depth_of_another_shape_is_refused_with_a_note(scene: Reconstruction) -> None:
    rng = np.random.default_rng(0)
    found = add_single_view(scene, TrueDepth(scene, lambda d: d * np.exp(rng.normal(0, 0.6, d.shape))))
    assert found.metric is None
    np.testing.assert_array_equal(found.z_depth, scene.z_depth)
    assert len(found.notes) == len(scene.notes) + 1 and "no metric scale" in found.notes[-1]


@pytest.mark.usefixtures("unchecked")
def test_a_view_that_is_off_does_not_decide(scene: Reconstruction) -> None:
    network = TrueDepth(scene, lambda depth: depth)
    network.error = lambda depth: depth * (1.3 if network.calls == 2 else 1.0)
    found = add_single_view(scene, network)
    assert found.metric is not None and found.metric["factor"] == pytest.approx(FACTOR, rel=0.02)


@pytest.mark.usefixtures("unchecked")
def test_sky_is_marked_inside_the_image_and_leaves_the_points(scene: Reconstruction) -> None:
    found = add_single_view(scene, TrueDepth(scene, lambda depth: depth), metric=False, sky=True)
    assert found.sky is not None and found.metric is None
    for index, view in enumerate(scene.views):
        left, top, right, bottom = view.transform.content_box
        rows = (bottom - top) // 4
        assert found.sky[index, top : top + rows - 1, left:right].all()
        assert not found.sky[index, top + rows + 1 :].any()
        assert not found.sky[index, :, :left].any() and not found.sky[index, :, right:].any()
    assert not (found.valid & found.sky).any()
    assert len(found.point_cloud(0)) < len(scene.point_cloud(0))


@pytest.mark.usefixtures("unchecked")
def test_a_network_of_another_kind_is_refused(scene: Reconstruction) -> None:
    network = TrueDepth(scene, lambda depth: depth)
    network.config = Sizes(metric_focal=None)
    with pytest.raises(UsageError, match="true depth"):
        add_single_view(scene, network)
    assert add_single_view(scene, network, metric=False, sky=True).sky is not None


def test_scaling_moves_points_of_the_head_too(scene: Reconstruction) -> None:
    with_head = dataclasses.replace(scene, head_points=scene.world_points, head_points_conf=scene.depth_conf)
    found = scaled(with_head, 3.0)
    assert found.head_points is not None
    np.testing.assert_allclose(found.head_points, found.world_points, rtol=1e-4, atol=1e-5)
