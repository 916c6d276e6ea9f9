"""`Reconstruction.refinement` as JSON holds it."""

from __future__ import annotations

import msgspec

from ...files.schema import Duration, Finite, Natural


class StoredTest(msgspec.Struct, frozen=True):
    """One test of a refinement."""

    name: str
    passed: bool
    before: Finite | None = None
    after: Finite | None = None
    limit: Finite | None = None


class StoredView(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one view; the fields of depth are those of an accepted refinement."""

    name: str
    status: str
    camera: Natural
    points: Natural
    depth_scale: Finite | msgspec.UnsetType = msgspec.UNSET
    depth_shift: Finite | msgspec.UnsetType = msgspec.UNSET
    depth_residual: Finite | msgspec.UnsetType | None = msgspec.UNSET
    depth_from: str | msgspec.UnsetType = msgspec.UNSET


class StoredDepth(msgspec.Struct, frozen=True):
    """Relative differences of depth to points."""

    residual_one_scale: Finite | None
    residual: Finite | None
    scales: list[Finite] | None


class StoredStereo(msgspec.Struct, frozen=True, omit_defaults=True):
    """Depth that was measured afterwards, or why not."""

    measured: bool
    sentence: str
    confirmed_share: Finite | msgspec.UnsetType = msgspec.UNSET


class StoredRefinement(msgspec.Struct, frozen=True, omit_defaults=True):
    """All of it."""

    accepted: bool
    sentence: str
    cameras_fit: bool | msgspec.UnsetType = msgspec.UNSET
    tests: list[StoredTest] | msgspec.UnsetType = msgspec.UNSET
    views: list[StoredView] | msgspec.UnsetType = msgspec.UNSET
    depth: StoredDepth | msgspec.UnsetType | None = msgspec.UNSET
    counts: dict[str, Natural] | msgspec.UnsetType = msgspec.UNSET
    in_given_world: bool | msgspec.UnsetType = msgspec.UNSET
    timings_s: dict[str, Duration] | msgspec.UnsetType = msgspec.UNSET
    notes: list[str] | msgspec.UnsetType = msgspec.UNSET
    stereo: StoredStereo | msgspec.UnsetType = msgspec.UNSET
