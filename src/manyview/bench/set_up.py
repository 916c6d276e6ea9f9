"""What every case of a benchmark shares: the model on its device, the images, and a report still empty."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ..errors import UsageError
from ..kernels import check_kernels
from ..models.network import Network
from ..reconstruction.plan.environment import describe
from ..reconstruction.plan.machine import PRECISIONS, measure_flops, pick_device, pick_dtype
from ..reconstruction.plan.preflight import Request
from .edges import decode_seconds, export_seconds
from .figures import BenchReport
from .floors import measure_copy
from .images import bench_images
from .methods import Method
from .noise import machine_load
from .options import BenchOptions
from .subject import subject


@dataclasses.dataclass
class SetUp:
    """The model under test on its device, the images' size, and a report that is still empty.

    `warm`: methods that have run once, so that their kernels are compiled and loaded.
    """

    model: Network
    device: torch.device
    dtype: torch.dtype
    height: int
    width: int
    report: BenchReport
    warm: set[Method] = dataclasses.field(default_factory=set)
    _edges: dict[int, tuple[float | None, float | None]] = dataclasses.field(default_factory=dict)

    def request(self, method: Method, frames: int) -> Request:
        options = self.report.options
        return Request(
            self.model.config,
            frames,
            self.height,
            self.width,
            method.plan,
            options.heads,
            self.dtype,
            kernels=method.kernels,
            linear_precision=method.linear_precision,
            head_dtype=None if options.head_precision == "fp32" else PRECISIONS[options.head_precision],
            channels_last=options.channels_last or None,
        )

    def images(self, frames: int) -> Tensor:
        """The same for every method."""
        options = self.report.options
        return bench_images(options.images, frames, self.height, self.width, options.seed)

    def edges(self, frames: int) -> tuple[float | None, float | None]:
        """Seconds to decode and to export so many frames, where asked for; measured once."""
        if frames not in self._edges:
            options, patch = self.report.options, self.model.config.patch_size
            decoding = decode_seconds(self.images(frames), patch) if options.decode else None
            exporting = export_seconds(self.images(frames), patch) if options.export else None
            self._edges[frames] = (decoding, exporting)
        return self._edges[frames]


def set_up(options: BenchOptions) -> SetUp:
    """Load the model and measure the machine. Raises UsageError or WeightsError."""
    device = pick_device(options.device)
    dtype = pick_dtype(device, options.precision)
    load = machine_load(device)
    for kernels in options.kernels:
        check_kernels(kernels, device)  # now, not case by case
    model = subject(options.model, device, options.heads, options.seed)
    config = model.config
    width, height = options.size or _default_size(config.image_size, config.patch_size)
    if width % config.patch_size or height % config.patch_size:
        raise UsageError(
            f"image sides must be multiples of {config.patch_size} pixels for this model, "
            f"got {width}x{height}"
        )
    facts = {
        "name": model.name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
        "image_size": [width, height],
    }
    environment = describe(device, dtype, config.num_heads, config.dim // config.num_heads)
    environment["load"] = load
    rate = measure_flops(device, dtype, seconds=0.5)
    report = BenchReport(options, facts, environment, rate, copy_bytes_per_s=measure_copy(device))
    return SetUp(model, device, dtype, height, width, report)


def _default_size(image_size: int, patch_size: int) -> tuple[int, int]:
    """(width, height): the weights' own longer side, and three quarters of it, in whole patches."""
    longer = image_size // patch_size
    return longer * patch_size, round(0.75 * longer) * patch_size
