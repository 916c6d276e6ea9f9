"""Depth of single images: each a run of its own, resized to the truth, one ratio of medians an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from manyview.datasets import dataset_named
from manyview.evaluate.protocols.published import PROTOCOLS
from manyview.evaluate.runner.image_sets import evaluate_dataset
from manyview.reconstruction.run.engine import reconstruct
from manyview.reconstruction.run.options import ReconstructOptions
from tests.datasets.posed_fixtures import write_sintel
from tests.models.tiny import tiny_vggt


def cubic(values: np.ndarray, size: int) -> np.ndarray:
    """The first axis resized as OpenCV's INTER_CUBIC does: Keys' kernel with -0.75, edges repeated."""
    at = (np.arange(size) + 0.5) * len(values) / size - 0.5
    out = 0
    for tap in range(-1, 3):
        index = np.floor(at).astype(int) + tap
        x = np.abs(at - index)
        near = 1.25 * x**3 - 2.25 * x**2 + 1
        far = -0.75 * (x**3 - 5 * x**2 + 8 * x - 4)
        weight = np.where(x <= 1, near, far)
        out = out + weight[:, None] * values[index.clip(0, len(values) - 1)]
    return out


def test_each_image_is_aligned_by_itself_and_weighted_by_its_pixels(tmp_path: Path) -> None:
    write_sintel(tmp_path / "training" / "final" / "alley_2")
    model, options = tiny_vggt(), ReconstructOptions(precision="fp32", size_policy="fit")
    protocol = PROTOCOLS["mono-depth-sintel"]
    given = (model, dataset_named("sintel"), tmp_path, protocol, (), ["alley_2"])
    found = evaluate_dataset(*given, options=options, workers=1)
    assert [scene.name for scene in found.scenes] == [f"alley_2/frame_{i:04}" for i in range(1, 6)]
    posed = dataset_named("sintel").read(tmp_path / "training" / "final" / "alley_2")
    errors, pixels = [], []
    for index, scene in enumerate(found.scenes):
        truth = posed.depth.read(index).astype(np.float64)
        depth = reconstruct([posed.images[index]], model, options).z_depth[0].astype(np.float64)
        depth = cubic(cubic(depth, truth.shape[0]).T, truth.shape[1]).T
        seen = (truth > 0) & (truth < 70)
        middle = (seen.sum() - 1) // 2
        depth *= np.sort(truth[seen])[middle] / np.sort(depth[seen])[middle]
        errors.append(np.mean(np.abs(depth.clip(max=70) - truth)[seen] / truth[seen]))
        pixels.append(int(seen.sum()))
        row = scene.rows[0]
        assert row.figures["pixels"] == pixels[-1]
        assert row.figures["abs_rel"] == pytest.approx(errors[-1], rel=1e-5)
    assert found.summary()["dense"]["abs_rel"] == pytest.approx(np.average(errors, weights=pixels), rel=1e-5)
