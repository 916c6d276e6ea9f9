"""Conformance of image loading: each model's outputs of a `preprocess` case, through the real reader."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from manyview.reconstruction.inputs.find import find_inputs
from manyview.reconstruction.inputs.load import LoadedViews, read_views
from manyview.reconstruction.inputs.preprocess import SizePolicy

_TARGET_SIZE = 518
_PATCH_SIZE = 14
_OMEGA_PATCH_SIZE = 16
_FUNCTION = re.compile(
    r"vggt\.(crop|pad|square)([0-9]*)|pi3\.(lanczos_small|lanczos)|omega\.(balanced|max_size)([0-9]+)"
)
# Most pixels of an image, by the name of the function.
_PIXEL_LIMITS = {"lanczos": 255_000, "lanczos_small": 60_000}


def run_preprocess_case(
    entry: Mapping[str, Any], inputs: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Every output that `expected` asks for, where its function is known.

    `inputs` are image0, image1, ... uint8 [height, width, 3 or 4]; they are written as PNG files and read
    by `read_views`. Outputs are shape, stats (mean and deviation of each image), row and sub (samples as
    round(255 value)), and for the square loader the picture's corners and size.
    """
    wanted = sorted({match[0] for name in expected if (match := _FUNCTION.match(name))})
    outputs: dict[str, torch.Tensor] = {}
    with tempfile.TemporaryDirectory() as folder:
        names = sorted((name for name in inputs if name.startswith("image")), key=lambda n: int(n[5:]))
        for name in names:
            Image.fromarray(inputs[name].numpy()).save(Path(folder) / f"{name}.png")
        found = find_inputs(folder)
        for function in wanted:
            match = _FUNCTION.fullmatch(function)
            assert match is not None
            policy: SizePolicy = match[1] or match[4] or "area"  # type: ignore[assignment]
            size, limit = int(match[2] or match[5] or _TARGET_SIZE), _PIXEL_LIMITS.get(match[3])
            patch = _OMEGA_PATCH_SIZE if match[4] else _PATCH_SIZE
            views = read_views(found, policy, size, patch, strict=True, pixel_limit=limit)
            results = {f"{function}.{field}": value for field, value in _fields(views).items()}
            outputs.update({name: value for name, value in results.items() if name in expected})
    return outputs


def _fields(views: LoadedViews) -> dict[str, torch.Tensor]:
    values = views.images.float() / 255
    stats = [(image.double().mean(), image.double().std()) for image in values]
    transforms = [record.transform for record in views.records]
    corners = [
        (
            t.offset_x,
            t.offset_y,
            t.offset_x + t.scale_x * t.upright_width,
            t.offset_y + t.scale_y * t.upright_height,
            t.upright_width,
            t.upright_height,
        )
        for t in transforms
    ]
    return {
        "shape": torch.tensor(views.images.shape, dtype=torch.int64),
        "stats": torch.tensor(stats, dtype=torch.float32),
        "row": views.images[:, :, views.images.shape[2] // 2, :],
        "sub": views.images[:, :, 3::7, 2::7],
        "coords": torch.tensor(corners, dtype=torch.float32),
    }
