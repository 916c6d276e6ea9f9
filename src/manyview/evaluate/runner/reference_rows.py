"""A reference as a row of a run on a dataset, measured exactly as the plans beside it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from ...datasets import PosedSet
from ...models.network import Network
from ...reconstruction.inputs.views import depth_at_network_pixels
from ...reconstruction.result.result import Reconstruction
from ...reconstruction.run.options import ReconstructOptions
from ...reconstruction.run.prepare import PreparedRun, prepare
from ..posed_scores import PosedTruth, identity_estimate, mean_step_estimate
from ..protocols.averages import Figures
from ..protocols.measures import Trajectory
from ..protocols.protocol import Protocol
from ..protocols.scene_pair import ScenePair
from ..references import COLMAP, IDENTITY
from ..references.colmap import colmap_estimate, colmap_settings
from .pairing import in_network_order, pair_of
from .records import PlanRow

_SEED = 0
# Of protocols that take only sure points: all of a row that does not look are as good as any.
_CONFIDENCE = 100.0


def reference_settings(name: str) -> dict[str, Any]:
    """All that decides a reference's figures beside the run's settings and inputs, as JSON types."""
    return {"reference": name, **(colmap_settings() if name == COLMAP else {"seed": _SEED})}


def reference_row(
    name: str,
    key: str,
    model: Network,
    posed: PosedSet,
    protocol: Protocol,
    options: ReconstructOptions,
    cloud: Float[np.ndarray, "n 3"] | None = None,
    workers: int = -1,
    folder: Path | None = None,
) -> PlanRow:
    """identity: no rotation, centres at random, the same depth everywhere; mean-step: `mean_step_estimate`;
    colmap: `colmap_estimate`, cameras alone, with `registered` (percent of views) and `ate_registered`.

    The first two are on the pixels that `model` would see. `folder` keeps COLMAP's cameras.
    """
    if name == COLMAP:
        return _colmap_row(key, posed, protocol, workers, folder)
    ready = prepare(list(posed.images), model, dataclasses.replace(options, accel="frame"))
    pair = pair_of(
        _blind(name, ready, posed, protocol.needs), ready, posed, protocol.grid, cloud, protocol.needs
    )
    return PlanRow(name, key, figures_of(pair, protocol, workers), notes=pair.notes, reference=True)


def figures_of(pair: ScenePair, protocol: Protocol, workers: int) -> Figures:
    """Everything that the protocol measures of a pair; figures of cameras None where the truth has none."""
    known = cameras_known(pair.true_cameras)
    figures: Figures = {}
    for measure in protocol.measures:
        if known or measure.needs != "cameras":
            figures |= measure.figures(pair, workers)
        else:
            standing_in = dataclasses.replace(pair, true_cameras=_any_cameras(len(pair.true_cameras)))
            figures |= dict.fromkeys(measure.figures(standing_in, workers))
    return figures


def cameras_known(cam_from_world: Float[np.ndarray, "views 3 4"]) -> bool:
    """Datasets of depth alone have NaN for cameras."""
    return bool(np.isfinite(cam_from_world).all())


def _any_cameras(views: int) -> Float[np.ndarray, "views 3 4"]:
    return np.repeat(np.eye(4)[None, :3], views, 0)


def _blind(name: str, ready: PreparedRun, posed: PosedSet, needs: str) -> Reconstruction:
    """What does not look as a reconstruction of the pictures that were prepared."""
    records = ready.views.records
    height, width = ready.views.images.shape[-2:]
    order = in_network_order(posed, records)
    depth = None
    if needs != "cameras" and posed.depth is not None:
        files = posed.depth
        maps = [depth_at_network_pixels(files.read(i), r.transform) for i, r in zip(order, records)]
        depth = torch.from_numpy(np.stack(maps))
    cameras = posed.cam_from_world[order]
    if not cameras_known(cameras):
        cameras = _any_cameras(len(order))
    truth = PosedTruth(torch.from_numpy(cameras), depth)
    shape = int(height), int(width)
    found = identity_estimate(truth, shape, _SEED) if name == IDENTITY else mean_step_estimate(truth, shape)
    focal = float(max(shape))
    one = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Reconstruction(
        images=np.zeros((len(records), *shape, 3), dtype=np.uint8),
        cam_from_world=found.cam_from_world.double().numpy(),
        intrinsics=np.repeat(one[None], len(records), 0),
        z_depth=found.z_depth.float().contiguous().numpy(),
        depth_conf=np.full((len(records), *shape), _CONFIDENCE, dtype=np.float32),
        views=records,
    )


def _colmap_row(key: str, posed: PosedSet, protocol: Protocol, workers: int, folder: Path | None) -> PlanRow:
    found = colmap_estimate(posed.images, None, folder, workers)
    pair = camera_pair(found.cam_from_world, posed)
    given = found.given
    inside = camera_pair(found.cam_from_world[given], posed.select(np.flatnonzero(given).tolist()))
    figures = figures_of(pair, protocol, workers)
    figures["registered"] = 100.0 * float(given.mean())
    measurable = given.any() and cameras_known(posed.cam_from_world)
    figures["ate_registered"] = Trajectory().figures(inside)["ate"] if measurable else None
    return PlanRow(
        COLMAP,
        key if found.lasting else "",
        figures,
        timings_s={"total": found.seconds},
        left_out=int((~given).sum()),
        notes=found.notes,
        reference=True,
    )


def camera_pair(cam_from_world: Float[np.ndarray, "views 3 4"], posed: PosedSet) -> ScenePair:
    """Cameras alone beside the truth's, in the set's own order; no depth, no points."""
    nothing = np.zeros((len(posed), 0, 0), dtype=np.float32)
    return ScenePair(
        found_cameras=cam_from_world,
        true_cameras=posed.cam_from_world,
        found_depth=nothing,
        confidence=nothing,
        found_points=np.zeros((len(posed), 0, 0, 3), dtype=np.float32),
        seen=nothing.astype(bool),
    )
