"""A model under several plans on real pictures with known cameras, beside estimates that do not look.

Pictures are read, sized and run as `manyview reconstruct` does, so what is measured is what users get.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...attention.plan import Plan
from ...datasets import PosedSet, read_posed_set
from ...errors import UsageError
from ...models.network import Network
from ...reconstruction.inputs.views import depth_at_network_pixels
from ...reconstruction.plan.environment import describe as describe_machine
from ...reconstruction.plan.machine import pick_device, pick_dtype
from ...reconstruction.result.result import Reconstruction
from ...reconstruction.run.engine import reconstruct
from ...reconstruction.run.options import ReconstructOptions
from ...reconstruction.run.prepare import PreparedRun, prepare
from ..posed_scores import (
    PosedEstimate,
    PosedNumbers,
    PosedTruth,
    aligned_error,
    identity_estimate,
    mean_step_estimate,
    posed_numbers,
)
from ..references import COLMAP, IDENTITY, MEAN_STEP, colmap_estimate, reference_names
from .pairing import in_network_order
from .settings import weights_digest

PROTOCOL = "posed-v1"


@dataclass(frozen=True)
class PosedRow:
    """A plan as it was given ("dense") or a reference; `left_out` views were given no camera. `seconds`
    are of the forward pass, for COLMAP of everything; `notes` are COLMAP's."""

    name: str
    numbers: PosedNumbers
    plan: str | None = None
    seconds: float | None = None
    left_out: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PosedSetScores:
    """All rows of one set: `facts` say what was measured, JSON-able."""

    facts: dict[str, Any]
    rows: tuple[PosedRow, ...]


@dataclass(frozen=True)
class PosedComparison:
    """The settings that reproduce a run, and its figures."""

    settings: dict[str, Any]
    sets: tuple[PosedSetScores, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "protocol": PROTOCOL,
            "settings": self.settings,
            "sets": [
                {"set": one.facts, "rows": [dataclasses.asdict(row) for row in one.rows]} for one in self.sets
            ],
        }


def evaluate_posed(
    model: Network,
    folders: Sequence[str | Path],
    plans: Sequence[str] = ("dense", "frame"),
    views: int = 24,
    seed: int = 0,
    options: ReconstructOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_set: Callable[[PosedComparison], None] | None = None,
    references: Sequence[str] = (IDENTITY, MEAN_STEP),
    reference_folder: Path | None = None,
) -> PosedComparison:
    """Run every plan on at most `views` evenly spread views of every folder (`posed_sets` knows the formats).

    `options` are those of a reconstruction; its plan and sampling are replaced, and reading is strict. `seed`
    draws the camera centres of the row "identity". `references` (identity, mean-step, colmap) are rows after
    the plans; `reference_folder` keeps what COLMAP found for other runs. `progress` hears (passes done, all),
    `on_set` what there is after each folder. Errors: UsageError for fewer than 2 views, no plan or an
    impossible one; InputError for a folder that cannot be used, before anything runs, or for a picture turned
    by its EXIF tag.
    """
    if views < 2 or not plans or not folders:
        raise UsageError("an evaluation needs at least one folder, one plan and 2 views")
    specs, beside = tuple(dict.fromkeys(plans)), reference_names(references)
    for spec in specs:
        if spec != "auto":
            Plan.parse(spec, model.config.depth)
    sets = [read_posed_set(folder).spread(views) for folder in folders]
    options = dataclasses.replace(options or ReconstructOptions(), strict=True)
    total, settings = len(sets) * len(specs), _settings(model, specs, views, seed, options)
    settings["references"] = list(beside)
    results: list[PosedSetScores] = []
    for posed in sets:
        rows: list[PosedRow] = []
        for spec in specs:
            ready = prepare(list(posed.images), model, dataclasses.replace(options, accel=spec))
            truth = _truth(posed, ready)
            scene = reconstruct(ready, model)
            rows.append(
                PosedRow(
                    spec,
                    posed_numbers(_estimate(scene, ready), truth),
                    scene.settings["accel"],
                    scene.timings_s["forward"],
                    len(posed) - len(scene),
                )
            )
            if progress is not None:
                progress(len(results) * len(specs) + len(rows), total)
        shape = scene.height, scene.width
        for name in beside:
            rows.append(_reference(name, posed, truth, shape, seed, reference_folder))
        results.append(PosedSetScores(_facts(posed, truth, scene), tuple(rows)))
        if on_set is not None:
            on_set(PosedComparison(settings, tuple(results)))
    return PosedComparison(settings, tuple(results))


def _reference(
    name: str, posed: PosedSet, truth: PosedTruth, shape: tuple[int, int], seed: int, folder: Path | None
) -> PosedRow:
    """The row of a reference; COLMAP has cameras alone, in the set's own order."""
    if name == IDENTITY:
        return PosedRow(name, posed_numbers(identity_estimate(truth, shape, seed), truth))
    if name == MEAN_STEP:
        return PosedRow("mean step", posed_numbers(mean_step_estimate(truth, shape), truth))
    found = colmap_estimate(posed.images, None, folder)
    cameras = torch.from_numpy(found.cam_from_world)
    own = PosedTruth(torch.from_numpy(posed.cam_from_world))
    nothing = torch.full((len(cameras), 0, 0), torch.nan)
    notes, given = found.notes, torch.from_numpy(found.given)
    if bool(given.any()) and not bool(given.all()):
        inside = aligned_error(cameras[given], PosedTruth(own.cam_from_world[given]))
        if inside is not None:
            notes = (*notes, f"colmap: ATE of its {int(given.sum())} views alone {inside:.3g} {posed.unit}")
    numbers = posed_numbers(PosedEstimate(cameras, nothing), own)
    return PosedRow(COLMAP, numbers, None, found.seconds, int((~given).sum()), notes)


def _estimate(scene: Reconstruction, ready: PreparedRun) -> PosedEstimate:
    """The reconstruction with NaN for the views that were left out of it."""
    records = ready.views.records
    place = {record.source: index for index, record in enumerate(records)}
    kept = [place[record.source] for record in scene.views]
    cameras = torch.full((len(records), 3, 4), torch.nan, dtype=torch.float64)
    depth = torch.full((len(records), scene.height, scene.width), torch.nan)
    confidence = depth.clone()
    cameras[kept] = torch.from_numpy(scene.cam_from_world.copy())
    depth[kept] = torch.from_numpy(scene.z_depth.copy())
    confidence[kept] = torch.from_numpy(scene.depth_conf.copy())
    return PosedEstimate(cameras, depth, confidence)


def _truth(posed: PosedSet, ready: PreparedRun) -> PosedTruth:
    """The measured cameras and depth of the views, in the order and pixels of the network's images."""
    order = in_network_order(posed, ready.views.records)
    cameras = torch.from_numpy(posed.cam_from_world[order])
    if posed.depth is None:
        return PosedTruth(cameras)
    records = ready.views.records
    maps = [
        depth_at_network_pixels(posed.depth.read(index), record.transform)
        for index, record in zip(order, records)
    ]
    return PosedTruth(cameras, torch.from_numpy(np.stack(maps)))


def _facts(posed: PosedSet, truth: PosedTruth, scene: Reconstruction) -> dict[str, Any]:
    return {
        "name": posed.name,
        "format": posed.format,
        "views": len(posed),
        "images": [path.name for path in posed.images],
        "height": scene.height,
        "width": scene.width,
        "images_sha256": scene.settings["images_sha256"],
        "unit": posed.unit,
        "path_length": truth.length,
        "spread": truth.spread,
        "depth_views": sum(path is not None for path in posed.depth.paths) if posed.depth else 0,
        "notes": list(posed.notes),
    }


def _settings(
    model: Network, plans: Sequence[str], views: int, seed: int, options: ReconstructOptions
) -> dict[str, Any]:
    device = pick_device(options.device)
    heads = model.config.num_heads
    return {
        "model": model.name,
        "weights_sha256": weights_digest(model),
        "plans": list(plans),
        "views": views,
        "seed": seed,
        "size_policy": model.config.size_policy if options.size_policy == "auto" else options.size_policy,
        "image_size": options.image_size or model.config.image_size,
        "environment": describe_machine(
            device, pick_dtype(device, options.precision), heads, model.config.dim // heads
        ),
    }
