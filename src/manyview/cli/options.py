"""Options that several commands share, and how they become options of the library."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from .._option_checks import check_options
from ..attention.methods import METHODS
from ..errors import UsageError
from ..files.paths import user_path
from ..reconstruction.inputs.options import InputOptions

if TYPE_CHECKING:
    from ..models.network import Network
    from ..reconstruction.run.options import ReconstructOptions

_ACCEL = (
    f"Plan of global attention: dense, frame, auto, or a method ({', '.join(METHODS)}), with options as in "
    "avggt:stride=2x2, or for ranges of layers as in 0-3:frame,4-5:dense; default: what the weights were "
    "trained for (FlashVGGT: flash; all others: dense)."
)


@dataclasses.dataclass(frozen=True)
class ModelChoice:
    """Which weights."""

    model: str = "auto"
    """Name, hub id (facebook/VGGT-1B), .safetensors or .pt file, or folder; auto: da3-base if it is in the
    cache or can be downloaded, else the bundled manyview-small."""
    revision: str | None = None
    """Commit, branch or tag of the hub repository."""
    offline: bool = False
    """Never touch the network; auto then takes what is here."""
    commercial_only: bool = False
    """Refuse weights that are not known to allow commercial use."""

    def load(self) -> Network:
        from ..models.load import load

        return load(self.model, **self._how())

    def load_or_describe(self) -> Network:
        """`load` without a download: weights that are not here may be without values."""
        from ..models.without_weights import load_or_describe

        return load_or_describe(self.model, **self._how())

    def _how(self) -> dict[str, Any]:
        return {
            "revision": self.revision,
            "offline": self.offline or None,
            "commercial_only": self.commercial_only,
        }


@dataclasses.dataclass(frozen=True)
class MeasureChoice:
    """Where the model runs, and the size of its images."""

    image_size: int | None = None
    """Longer side of the network's images in pixels; default: what the weights were made for."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Of the trunk; auto: bf16 where the device multiplies it, else fp16 on CUDA, fp32 on CPUs."""
    memory_limit_gib: float | None = None
    """Plan for at most this much memory."""

    def options(self) -> ReconstructOptions:
        from ..reconstruction.run.options import ReconstructOptions

        return ReconstructOptions(**vars(self))


@dataclasses.dataclass(frozen=True)
class SizedChoice(MeasureChoice):
    """Where the model runs, and the size and shape of its images."""

    size_policy: Literal[
        "auto",
        "fit",
        "crop",
        "pad",
        "square",
        "area",
        "balanced",
        "max_size",
        "upper_bound",
        "upper_bound_crop",
        "lower_bound",
        "lower_bound_crop",
    ] = "auto"
    """auto: the model's own; fit: whole images; crop, pad, square: VGGT's; area: π³'s; balanced, max_size:
    VGGT-Ω's; others: Depth Anything 3's."""


@dataclasses.dataclass(frozen=True)
class RunChoice(SizedChoice):
    """How to read the input and run the model."""

    accel: Annotated[str | None, tyro.conf.arg(help=_ACCEL)] = None
    kernels: Literal["auto", "plain", "norms", "triton"] = "auto"
    """norms: fused norms, sums and rotations; triton: token merging too; auto: norms on CUDA where Triton
    compiles them, else plain. No card has run them yet."""
    head_precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of dense heads' convolutions; auto: bf16 on CUDA where the trunk has 16 bits, else the weights'."""
    linear_precision: Literal["plain", "fp8"] = "plain"
    """Of the trunk; fp8: 8-bit codes, multiplied as such by CUDA from capability 8.9, emulated elsewhere."""
    reference_view: Literal["saddle_balanced", "first", "middle", "saddle_sim_range"] | None = None
    """How Depth Anything 3 chooses the view that defines the world; default: saddle_balanced."""
    camera_from_rays: bool = False
    """Cameras fitted to the rays of Depth Anything 3's dense head, in place of those of its camera head."""
    point_head: bool = False
    """Also run the point head and keep its points beside those from depth."""
    pixel_centres: Literal["half", "integer"] = "half"
    """half is consistent; integer unprojects as upstream VGGT does."""
    strict: bool = False
    """Refuse damaged files instead of skipping them."""
    chunk: int | None = None
    """With anchors: so many views at a time, results on the disk; default: all, or as many as fit."""
    inputs: InputOptions = dataclasses.field(default_factory=InputOptions)


@dataclasses.dataclass(frozen=True)
class DevicesChoice:
    """Several devices for one scene."""

    devices: str | None = None
    """Devices that share the scene, a process each: all, cards such as 0,1,2,3, or cpu,cpu."""
    rank_timeout: int | None = None
    """Seconds after which a process that waits for the others gives up; default: 600."""

    def chosen(self, device: str) -> tuple[str, ...]:
        """The devices; none where the command runs in one process on `device`. Raises UsageError."""
        check_options(self, at_least={"rank_timeout": 1})
        if self.devices is None:
            if self.rank_timeout is not None:
                raise UsageError("--rank-timeout is about several processes: give --devices too, or torchrun")
            return ()
        if device != "auto":
            raise UsageError(f"--device {device} and --devices exclude each other; leave out one of them")
        from ..distributed.launch import devices_of

        return devices_of(self.devices)


@dataclasses.dataclass(frozen=True)
class KnownChoice:
    """What is known of the images beforehand; for networks that take it (Pi3X, Depth Anything 3), and known
    cameras for all with --refine."""

    known_cameras: Path | None = None
    """COLMAP model, posed data set, or poses.txt and intrinsics.txt; some of the views are enough (but for
    Depth Anything 3 without --refine, which takes poses and intrinsics of all)."""
    known_depth: Path | None = None
    """Folder of depth maps by the images' names (.png in millimetres, .npy, .pfm, .tif, .dpt)."""
    known_depth_scale: float | None = None
    """Values of a depth map that are one unit of the cameras; default: 1000 for whole numbers, else 1."""

    def onto(self, options: ReconstructOptions) -> ReconstructOptions:
        from ..reconstruction.known.files import KnownFiles

        known = KnownFiles(self.known_cameras, self.known_depth, self.known_depth_scale)
        return dataclasses.replace(options, known=known)


@dataclasses.dataclass(frozen=True)
class SingleViewChoice:
    """What a network that sees one view at a time adds to the result."""

    metric: bool = False
    """Lengths in metres, by --metric-model on a few views; refused where its depth has another shape."""
    sky: bool = False
    """Mark the sky of every view by --metric-model, and leave it out of the points."""
    metric_model: str = "da3-metric-large"
    """Depth in metres and sky of single views: name, hub id, file or folder."""

    def onto(self, options: ReconstructOptions, model: ModelChoice) -> ReconstructOptions:
        """The network is loaded, if it is wanted, as `model` says."""
        options = dataclasses.replace(options, metric=self.metric, sky=self.sky)
        if not self.metric and not self.sky:
            return options
        network = dataclasses.replace(model, model=self.metric_model, revision=None).load()
        return dataclasses.replace(options, metric_model=network)


@dataclasses.dataclass(frozen=True)
class MaskChoice:
    """What of the images is hidden."""

    masks: Path | None = None
    """Folder of masks called like the images (0001.png or 0001.jpg.png for 0001.jpg); white is kept."""
    mask_sky: bool = False
    """Sky counts as masked too, where the network gives it or --sky finds it."""
    masked_keys: Literal["hidden", "kept"] = "hidden"
    """hidden: patches that masks hide whole are no keys of global attention, where the plan allows it."""

    def onto(self, options: ReconstructOptions) -> ReconstructOptions:
        return dataclasses.replace(options, **vars(self))


@dataclasses.dataclass(frozen=True)
class StreamChoice:
    """How frames are streamed; what says "chunks:" or "anchors:" belongs to that engine."""

    engine: Literal["auto", "chunks", "anchors"] = "auto"
    """chunks: descriptors of past chunks (FlashVGGT); anchors: a few whole frames for all; auto: what suits
    the network, chunks for VGGT."""
    cameras: Literal["first", "revised"] = "first"
    """first: those predicted with each chunk; revised: all again at the end, from all camera tokens."""
    keep_one_in: int | None = None
    """chunks: of so many frames the first stays in memory; default 5."""
    semantics: Literal["paper", "released"] | None = None
    """chunks: paper drops frames for later chunks only; released masks them in their own chunk too."""
    memory_frames: int | None = None
    """chunks: at most so many frames in memory; 0: no limit; default 128."""
    camera_window: int | None = None
    """chunks: frames that the camera head takes beside a chunk; 0: all, which grows; default 64."""
    start: int | None = None
    """anchors: frames among which the first anchors are chosen; default 24."""
    beyond: float | None = None
    """anchors: a frame farther from them than this many times their spacing becomes one; 0: none does."""
    budget_mib: int | None = None
    """anchors: most memory in MiB; default 4096."""

    def given(self) -> dict[str, Any]:
        """Options of the engine by name."""
        values = dataclasses.asdict(self)
        revised = values.pop("cameras") == "revised"
        del values["engine"]
        given = {name: value for name, value in values.items() if value is not None}
        for name in ("memory_frames", "camera_window", "beyond"):
            if given.get(name) == 0:
                given[name] = None
        if "budget_mib" in given:
            given["budget_bytes"] = given.pop("budget_mib") * 2**20
        return given | ({"revise": True} if revised else {})


def with_user_paths(command: Any) -> Any:
    """A command's dataclass with ~ expanded in its paths, which no shell does in --out=~/x."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        if isinstance(value, Path):
            changes[field.name] = user_path(value)
        elif isinstance(value, tuple) and any(isinstance(item, Path) for item in value):
            changes[field.name] = tuple(map(user_path, value))
        elif dataclasses.is_dataclass(value):
            changes[field.name] = with_user_paths(value)
    return dataclasses.replace(command, **changes)


def flat_options(options: Any) -> dict[str, Any]:
    """Values of a dataclass, and of those within it, by name, as JSON types."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            found |= flat_options(value)
        else:
            found[field.name] = list(value) if isinstance(value, tuple) else value
    return {name: str(value) if isinstance(value, Path) else value for name, value in found.items()}


def check_apart(inputs: Iterable[str], out: Path) -> None:
    """UsageError where the output folder is one of the inputs."""
    if out.is_dir() and any(Path(item).is_dir() and out.samefile(item) for item in inputs):
        raise UsageError(f"{out} is the input; choose another folder for the result")
