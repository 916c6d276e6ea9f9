"""The models that have a name here: where their weights are and what their licences allow."""

from __future__ import annotations

import dataclasses

_EVERY = "all"
_NO_REFERENCE = "all; without a whole reference frame"
_FLASH = "flash (used by default) or flash:version=v2; others replace what it was trained for"
_TRAINED = "{} (used by default); others replace what it was trained for"
_REGISTERS = "all; its five layers among camera and register tokens stay as they are"
_FAIR = "FAIR Noncommercial Research License v1 (research only; restricts outputs too)"
_BALANCED = "about {0}x{0} pixels in each picture's shape ({1} at 4:3), patches of 16"


@dataclasses.dataclass(frozen=True)
class NamedModel:
    """One row of the table. `commercial_use` is None where the licence is not known.

    `hub_id` is None for weights that come with the package. `revision` pins a commit of the hub's
    repository, so that a name means the same weights tomorrow. `file` names one of several files. `plan` is
    what the weights were trained for where that is not dense attention. `predicts`, `images` and `methods`
    (which accelerations apply) are for people.
    """

    name: str
    hub_id: str | None
    licence: str
    commercial_use: bool | None
    notes: str
    revision: str | None = None
    file: str | None = None
    predicts: str = "cameras, depth, points"
    images: str = "longer side 518, patches of 14"
    methods: str = _EVERY
    plan: str | None = None


MODELS: tuple[NamedModel, ...] = (
    NamedModel(
        name="manyview-small",
        hub_id=None,
        licence="Apache-2.0",
        commercial_use=True,
        notes="comes with the package; trained on procedural scenes",
        file="manyview-small.safetensors",
        images="longer side 112, patches of 8",
    ),
    NamedModel(
        name="manyview-small-elastic",
        hub_id=None,
        licence="Apache-2.0",
        commercial_use=True,
        notes="manyview-small trained on under changing plans: one set of weights for all of them",
        file="manyview-small-elastic.safetensors",
        images="longer side 112, patches of 8",
    ),
    NamedModel(
        name="manyview-flash",
        hub_id=None,
        licence="Apache-2.0",
        commercial_use=True,
        notes="manyview-small trained on for descriptors in place of all keys",
        file="manyview-flash.safetensors",
        images="longer side 112, patches of 8",
        methods=_TRAINED.format("flash:r=4"),
        plan="flash:r=4",
    ),
    NamedModel(
        name="manyview-flash-stream",
        hub_id=None,
        licence="Apache-2.0",
        commercial_use=True,
        notes="manyview-flash trained on for streams, where a frame sees earlier ones only",
        file="manyview-flash-stream.safetensors",
        images="longer side 112, patches of 8",
        methods=_TRAINED.format("flash:r=4,keyframes=0"),
        plan="flash:r=4,keyframes=0",
    ),
    NamedModel(
        name="vggt-1b",
        hub_id="facebook/VGGT-1B",
        licence="CC-BY-NC-4.0",
        commercial_use=False,
        notes="research only; facebook/VGGT-1B-Commercial allows commercial use",
        revision="860abec7937da0a4c03c41d3c269c366e82abdf9",
        predicts="cameras, depth, points, tracks",
    ),
    NamedModel(
        name="vggt-1b-commercial",
        hub_id="facebook/VGGT-1B-Commercial",
        licence="VGGT licence v1 (commercial use allowed, military use excluded)",
        commercial_use=True,
        notes="gated: accept the licence on its hub page and log in",
        predicts="cameras, depth, points, tracks",
    ),
    NamedModel(
        name="pi3",
        hub_id="yyfz233/Pi3",
        licence="CC-BY-NC-4.0",
        commercial_use=False,
        notes="no reference frame, the same in any order; focal lengths are fitted to its points",
        images="up to 255,000 pixels in the first picture's shape (574x434 at 4:3), patches of 14",
        methods=_NO_REFERENCE,
    ),
    NamedModel(
        name="pi3x",
        hub_id="yyfz233/Pi3X",
        licence="CC-BY-NC-4.0",
        commercial_use=False,
        notes="as pi3, smoother points; known cameras, intrinsics and depth as optional input",
        predicts="cameras, depth, points, metric scale",
        images="up to 255,000 pixels in the first picture's shape (574x434 at 4:3), patches of 14",
        methods=_NO_REFERENCE,
    ),
    NamedModel(
        name="flashvggt",
        hub_id="ZipW/FlashVGGT",
        licence="not stated",
        commercial_use=None,
        notes="VGGT-1B trained on for short keys; which of two public versions, the file does not tell",
        file="flashvggt.pt",
        predicts="cameras, depth",
        methods=_FLASH,
        plan="flash",
    ),
    NamedModel(
        name="flashvggt-stream",
        hub_id="ZipW/FlashVGGT",
        licence="not stated",
        commercial_use=None,
        notes="as flashvggt, trained on for chunks of a video",
        file="flashvggt_stream.pt",
        predicts="cameras, depth",
        methods=_FLASH,
        plan="flash",
    ),
    NamedModel(
        name="vggt-omega",
        hub_id="facebook/VGGT-Omega",
        licence=_FAIR,
        commercial_use=False,
        notes="gated: accept the licence on its hub page and log in; outputs are restricted too",
        file="vggt_omega_1b_512.pt",
        predicts="cameras, depth",
        images=_BALANCED.format(512, "592x448"),
        methods=_REGISTERS,
    ),
    NamedModel(
        name="vggt-omega-256-text",
        hub_id="facebook/VGGT-Omega",
        licence=_FAIR,
        commercial_use=False,
        notes="as vggt-omega, for small images; one vector of a scene to compare with text (Python)",
        file="vggt_omega_1b_256_text.pt",
        predicts="cameras, depth, text alignment",
        images=_BALANCED.format(256, "288x224"),
        methods=_REGISTERS,
    ),
)


def find_model(name: str) -> NamedModel | None:
    """The first row whose short name, hub id, or hub id with file is `name`, in any case of letters."""
    wanted = name.lower()
    return next((m for m in MODELS if wanted in _names(m)), None)


def find_file(name: str) -> NamedModel | None:
    """The row whose weights are published in a file of that name, where the name is one of a kind."""
    return next((m for m in MODELS if m.hub_id is not None and m.file == name.lower()), None)


def _names(model: NamedModel) -> tuple[str, ...]:
    hub_id = (model.hub_id or "").lower()
    names = (model.name, *((hub_id,) if hub_id else ()))
    return (*names, f"{hub_id}/{model.file}") if hub_id and model.file else names


def model_names() -> str:
    """The short names, for messages."""
    return ", ".join(m.name for m in MODELS)
