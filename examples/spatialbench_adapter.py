"""ManyView for SpatialBench's own harness (arXiv 2605.27367, github.com/Ropedia/SpatialBench).

Copy this file to benchmark/evaluation/model_adapters/manyview_adapter.py, import it in run_benchmark.py as
its other adapters are, copy spatialbench_manyview.yaml to benchmark/configs/end2end/, and run the harness
with that configuration. `model`, `accel` and the other attributes below are settings of the configuration;
`checkpoint` is any model that `manyview.load` takes, and `model` must stay "manyview".

Images are those of the harness as they are, so their sides have to be multiples of the network's patch: its
own sizes are for patches of 14; for VGGT-Omega (16) set `resolution_override: {width: 512, align: 16}`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import manyview

from . import register_adapter
from .base_adapter import ModelAdapter


@register_adapter("manyview")
class ManyViewAdapter(ModelAdapter):
    """Any network of ManyView under any plan of global attention."""

    def __init__(self) -> None:
        super().__init__()
        self.model: Any = None
        self.device = "cuda"
        # `configure` sets those that exist, before the model is loaded.
        self.accel = "auto"
        self.precision = "auto"
        self.kernels = "auto"
        self.memory_limit_gib: float | None = None

    def name(self) -> str:
        return "manyview"

    def load_model(
        self, checkpoint: str | None = None, device: str = "cuda", weights_dir: str | None = None
    ) -> None:
        self.model = manyview.load(checkpoint or "facebook/VGGT-1B").to(device).eval()
        self.device = device

    def predict(self, scene: dict[str, Any]) -> dict[str, np.ndarray]:
        """Depth, cameras and intrinsics of all frames in one pass, in the frame of the first camera.

        A plan that does not fit in memory raises MemoryLimitError, which the harness records as the scene's.
        """
        images = scene["images_raw"]
        frames, _, height, width = images.shape
        patch = self.model.config.patch_size
        if height % patch or width % patch:
            raise ValueError(
                f"images of {width}x{height} are no whole patches of {patch}; set resolution_override: "
                f"{{width: {width - width % patch}, align: {patch}}}"
            )
        found = manyview.reconstruct(
            list(images),
            self.model,
            accel=self.accel,
            size_policy="fit",
            image_size=max(height, width),
            device=self.device,
            precision=self.precision,
            kernels=self.kernels,
            memory_limit_gib=self.memory_limit_gib,
        )
        if len(found) != frames:
            raise RuntimeError(f"{frames - len(found)} of {frames} frames were given no camera")
        cam_from_first = _from_first(found.cam_from_world)
        intrinsics = found.intrinsics.copy()
        intrinsics[:, :2, 2] -= 0.5  # the harness has pixel centres at whole numbers
        return {
            "pred_depth": found.z_depth.astype(np.float32),
            "pred_confidence": found.depth_conf.astype(np.float32),
            "w2c_extrinsics": cam_from_first.astype(np.float32),
            "pred_pose": _inverse(cam_from_first).astype(np.float32),
            "pred_intrinsic": intrinsics.astype(np.float32),
        }

    def normalize_gt_poses(self, scene: dict[str, Any]) -> np.ndarray:
        """True world-to-camera matrices in the frame of the first camera, as `predict` gives its own.

        The harness compares inverse(W2C_i) @ W2C_j, which depends on the frame.
        """
        return _from_first(_inverse(np.asarray(scene["extrinsic"], dtype=np.float64))).astype(np.float32)


def _inverse(transforms: np.ndarray) -> np.ndarray:
    """Of rigid transforms [frames, 3, 4]."""
    rotation = np.swapaxes(transforms[:, :, :3], 1, 2)
    return np.concatenate([rotation, -rotation @ transforms[:, :, 3:]], -1)


def _from_first(cam_from_world: np.ndarray) -> np.ndarray:
    """The same cameras where the first one is the identity."""
    world_from_first = _inverse(cam_from_world[:1].astype(np.float64))
    rotation = cam_from_world[:, :, :3] @ world_from_first[:, :, :3]
    translation = cam_from_world[:, :, :3] @ world_from_first[:, :, 3:] + cam_from_world[:, :, 3:]
    return np.concatenate([rotation, translation], -1)
