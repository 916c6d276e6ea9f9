"""Posed images as a scene of the loop: every plan and every reference on the same frames."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datasets.image_files import image_size
from ...datasets.posed_set import PosedSet
from ...errors import ManyViewError, MemoryLimitError
from ...files.ply_mesh import Mesh, read_mesh
from ...geometry.cameras import invert_rigid
from ...models.network import Network
from ...reconstruction.inputs.load import LoadedViews
from ...reconstruction.result.result import Reconstruction
from ...reconstruction.run.engine import reconstruct
from ...reconstruction.run.options import ReconstructOptions
from ...reconstruction.run.prepare import prepare
from ...refine import RefineOptions, refine
from ...refine.stereo import StereoOptions
from ..metrics.trajectory import spread
from ..protocols.measures import Trajectory
from ..protocols.protocol import Protocol, cameras_known
from ..references import COLMAP, IDENTITY
from ..references.baselines import identity, mean_step
from ..references.colmap import colmap_estimate, colmap_settings
from .pairing import camera_pair, ground_truth, in_network_order, pair_of
from .records import PlanRow, SceneRows
from .settings import digest, inputs_digest
from .streamed import StreamedPlan, run_streamed

# Some protocols take only confident points: all of a baseline are as good as any.
_CONFIDENCE = 100.0


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How each scene of a run is measured; `settings` decide the keys of rows.

    `seed` draws the camera centres of the baseline identity, `reference_folder` keeps COLMAP's cameras,
    `workers` threads search neighbours (-1: all cores), `together` scenes are measured at a time. With
    `refine` every plan has a second row, of its result refined (and with `stereo` its depth measured).
    `streams` have rows after those of the plans.
    """

    settings: Mapping[str, Any]
    protocol: Protocol
    plans: tuple[str, ...]
    references: tuple[str, ...]
    options: ReconstructOptions
    reference_folder: Path | None = None
    workers: int = -1
    together: int = 1
    seed: int = 0
    refine: RefineOptions | None = None
    stereo: StereoOptions | None = None
    streams: tuple[StreamedPlan, ...] = ()


@dataclasses.dataclass(frozen=True)
class PosedScene:
    """The frames of a scene that are used, of `total`, and how they are measured.

    Rows of `known` are taken over where their key is the same; with `warm` each plan runs once unmeasured.
    """

    name: str
    posed: PosedSet
    total: int
    how: Recipe
    group: str = ""
    known: Mapping[str, PlanRow] = dataclasses.field(default_factory=dict)
    warm: bool = False

    @property
    def rows(self) -> int:
        each = 1 if self.how.refine is None else 2
        return each * len(self.how.plans) + len(self.how.streams) + len(self.how.references)

    def measure(self, model: Network, row_done: Callable[[], None]) -> SceneRows:
        """Every plan, every stream, then every reference, on frames as the data set makes them."""
        how, rule, config = self.how, self.posed.frames, model.config
        how = dataclasses.replace(how, protocol=how.protocol.of_group(self.group))
        if rule is None:
            return dataclasses.replace(self, how=how)._measure(model, row_done)
        with tempfile.TemporaryDirectory(prefix="manyview-") as folder:
            width = how.options.image_size or config.image_size
            posed = rule.write(self.posed, Path(folder), width, config.patch_size)
            options = dataclasses.replace(how.options, image_size=max(image_size(posed.images[0])))
            how = dataclasses.replace(how, options=options)
            return dataclasses.replace(self, posed=posed, how=how)._measure(model, row_done)

    def _measure(self, model: Network, row_done: Callable[[], None]) -> SceneRows:
        how, posed, needs = self.how, self.posed, self.how.protocol.needs
        if needs == "cameras":
            posed = dataclasses.replace(posed, depth=None)
        if needs != "points":
            posed = dataclasses.replace(posed, cloud=None)
        inputs = inputs_digest(posed)
        names = tuple(path.name for path in posed.images)
        cloud = None if posed.cloud is None else read_mesh(posed.cloud)
        rows: list[PlanRow] = []
        facts: dict[str, Any] = {}
        # What goes into a row's key: the spec of a plan, the settings of a stream or a reference.
        known_by: list[tuple[str | StreamedPlan, Any]] = [
            *((spec, spec) for spec in how.plans),
            *((stream, stream.to_json()) for stream in how.streams),
            *((name, reference_settings(name, how.seed)) for name in how.references),
        ]
        for spec, what in known_by:
            key = digest([how.settings, what, self.name, list(names), inputs])
            if key in self.known:
                made: tuple[PlanRow, ...] = (self.known[key],)
            elif isinstance(spec, StreamedPlan):
                made = (self._stream_row(model, posed, spec, key, cloud),)
            elif isinstance(what, str):
                made, facts = self._plan_rows(model, posed, spec, key, cloud)
            elif spec == COLMAP:
                made = (_colmap_row(key, posed, how),)
            else:
                made = (_baseline_row(spec, key, model, posed, how, cloud),)
            for row in made:
                if any(value is not None and not np.isfinite(value) for value in row.figures.values()):
                    raise ManyViewError(
                        f"{posed.name}: a figure of {row.plan} is not finite; this is an error of ManyView"
                    )
                rows.append(row)
                row_done()
        return SceneRows(
            self.name, self.group, self.total, posed.unit, names, inputs, tuple(rows), posed.notes, facts
        )

    def _plan_rows(
        self, model: Network, posed: PosedSet, spec: str, key: str, cloud: Mesh | None
    ) -> tuple[tuple[PlanRow, ...], dict[str, Any]]:
        """(the row, and that of the refined result if it is wanted; facts for a table)."""
        how = self.how
        try:
            ready = prepare(list(posed.images), model, dataclasses.replace(how.options, accel=spec))
            if self.warm:
                reconstruct(ready, model)
            scene = reconstruct(ready, model)
        except MemoryLimitError as error:
            return (self._failed(spec, key, error),), {}
        rows = [self._row(spec, key, scene, ready.views, posed, cloud)]
        if how.refine is not None:
            device = str(ready.chosen.machine.device)
            refined = refine(scene, options=how.refine, stereo=how.stereo, device=device)
            rows.append(self._row(f"{spec}, refined", "", refined, ready.views, posed, cloud))
        true = posed.cam_from_world[in_network_order(posed, ready.views.records)]
        centres = invert_rigid(torch.from_numpy(true).double())[..., 3]
        facts = {
            "format": posed.format,
            "height": scene.height,
            "width": scene.width,
            "images_sha256": scene.settings["images_sha256"],
            "path_length": float(centres.diff(dim=0).norm(dim=-1).sum()),
            "spread": spread(centres),
            "depth_views": sum(path is not None for path in posed.depth.paths) if posed.depth else 0,
        }
        return tuple(rows), facts

    def _stream_row(
        self,
        model: Network,
        posed: PosedSet,
        stream: StreamedPlan,
        key: str,
        cloud: Mesh | None,
    ) -> PlanRow:
        try:
            if self.warm:
                run_streamed(stream, posed, model, self.how.options)
            scene, views = run_streamed(stream, posed, model, self.how.options)
        except MemoryLimitError as error:
            return self._failed(str(stream), key, error)
        return self._row(str(stream), key, scene, views, posed, cloud)

    def _failed(self, name: str, key: str, error: MemoryLimitError) -> PlanRow:
        together = self.how.together
        shared = f" (memory is shared by {together} scenes: fewer --jobs)" if together > 1 else ""
        return PlanRow(name, key, failed=f"{error}{shared}")

    def _row(
        self,
        name: str,
        key: str,
        scene: Reconstruction,
        views: LoadedViews,
        posed: PosedSet,
        cloud: Mesh | None,
    ) -> PlanRow:
        how = self.how
        pair = pair_of(scene, views.records, posed, how.protocol.grid, cloud, how.protocol.needs)
        said = () if scene.refinement is None else (f"{name}: {scene.refinement['sentence']}",)
        notes = (*scene.notes, *pair.notes, *said)
        figures = how.protocol.figures(pair, how.workers)
        if scene.refinement is not None:
            statuses = [view["status"] for view in scene.refinement["views"]]
            figures["refined_views"] = float(len(statuses) - statuses.count("unrefined"))
        if how.together > 1:
            notes = (*notes, f"seconds were taken with {how.together} scenes at a time")
        return PlanRow(
            name,
            key,
            figures,
            scene.settings["accel"],
            dict(scene.timings_s),
            dict(scene.memory_bytes),
            len(posed) - len(scene),
            notes,
        )


def reference_settings(name: str, seed: int = 0) -> dict[str, Any]:
    """All that decides a reference's figures beside the run's settings and inputs, as JSON types."""
    return {"reference": name, **(colmap_settings() if name == COLMAP else {"seed": seed})}


def _baseline_row(
    name: str, key: str, model: Network, posed: PosedSet, how: Recipe, cloud: Mesh | None
) -> PlanRow:
    """An image-independent baseline on the pixels that `model` would see."""
    views = prepare(list(posed.images), model, dataclasses.replace(how.options, accel="frame")).views
    scene = _baseline(name, views, posed, how)
    pair = pair_of(scene, views.records, posed, how.protocol.grid, cloud, how.protocol.needs)
    pair = dataclasses.replace(pair, true_intrinsics=None)  # the baseline's are arbitrary
    return PlanRow(name, key, how.protocol.figures(pair, how.workers), notes=pair.notes, reference=True)


def _baseline(name: str, views: LoadedViews, posed: PosedSet, how: Recipe) -> Reconstruction:
    """The baseline as a reconstruction of the images that were prepared."""
    records = views.records
    height, width = (int(side) for side in views.images.shape[-2:])
    if name == IDENTITY:
        found = identity(len(records), height, width, seed=how.seed)
    else:
        cameras = posed.cam_from_world[in_network_order(posed, records)]
        if not cameras_known(cameras):
            cameras = np.repeat(np.eye(4)[None, :3], len(records), 0)
        depth = None
        if how.protocol.needs != "cameras" and posed.depth is not None:
            shape = len(records), height, width
            depth = torch.from_numpy(ground_truth(posed, records, shape)["true_depth"])
        found = mean_step(torch.from_numpy(cameras), depth, (height, width))
    focal = float(max(height, width))
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Reconstruction(
        images=np.zeros((len(records), height, width, 3), dtype=np.uint8),
        cam_from_world=found.cam_from_world.double().numpy(),
        intrinsics=np.repeat(intrinsics[None], len(records), 0),
        z_depth=found.z_depth.float().contiguous().numpy(),
        depth_conf=np.full((len(records), height, width), _CONFIDENCE, dtype=np.float32),
        views=records,
    )


def _colmap_row(key: str, posed: PosedSet, how: Recipe) -> PlanRow:
    """COLMAP's cameras alone, with `registered` (percent of the views) and `ate_registered`, their ATE."""
    found = colmap_estimate(posed.images, None, how.reference_folder, how.workers)
    given = found.given
    figures = how.protocol.figures(camera_pair(found.cam_from_world, posed, found.intrinsics), how.workers)
    figures["registered"] = 100.0 * float(given.mean())
    figures["ate_registered"] = None
    if given.any() and cameras_known(posed.cam_from_world):
        inside = camera_pair(found.cam_from_world[given], posed.select(np.flatnonzero(given).tolist()))
        figures["ate_registered"] = Trajectory().figures(inside)["ate"]
    return PlanRow(
        COLMAP,
        key if found.lasting else "",
        figures,
        timings_s={"total": found.seconds},
        left_out=int((~given).sum()),
        notes=found.notes,
        reference=True,
    )
