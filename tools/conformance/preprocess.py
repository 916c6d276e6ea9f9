"""Conformance of image loading: each model's outputs of a `preprocess` case, through the real reader."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from manyview.models.alternating import normalise_images
from manyview.models.config import SizePolicy
from manyview.reconstruction.inputs.find import find_inputs
from manyview.reconstruction.inputs.load import LoadedViews, read_views
from manyview.reconstruction.inputs.options import InputSet
from tools.conformance.folder import Case

_TARGET_SIZE = 518
_PATCH_SIZE = 14
_OMEGA_PATCH_SIZE = 16
_FUNCTION = re.compile(
    r"vggt\.(crop|pad|square)([0-9]*)|pi3\.(lanczos_small|lanczos)|omega\.(balanced|max_size)([0-9]+)"
)
_BOUND = re.compile(r"((?:upper|lower)_bound)_(resize|crop)([0-9]+)\.")
_DENSE_ABOVE = 12_000  # pixels of an image of which a sample is stored
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
        found = _written(inputs, folder)
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


def run_bound_case(case: Case) -> dict[str, torch.Tensor]:
    """Depth Anything 3's loader: samples of pixels, their normalised values, and intrinsics."""
    outputs: dict[str, torch.Tensor] = {}
    given = case.inputs["intrinsics"].double().numpy()
    with tempfile.TemporaryDirectory() as folder:
        found = _written(case.inputs, folder)
        for policy, step, size in {match.groups() for name in case.expected if (match := _BOUND.match(name))}:
            name: Any = policy if step == "resize" else f"{policy}_{step}"
            views = read_views(found, name, int(size), _PATCH_SIZE, strict=True)
            images = views.images
            rows, columns = images.shape[-2:]
            sample = images[:, :, 3::7, 2::7] if rows * columns > _DENSE_ABOVE else images
            normalised = normalise_images(images, torch.float32)
            transforms = [record.transform.network_from_upright for record in views.records]
            fields = {
                "shape": torch.tensor(images.shape),
                "pixels": sample,
                "near": sample[:, :, ::2, ::2].float(),
                "normalised": normalised[:, :, rows // 2 : rows // 2 + 2, ::5],
                "stats": torch.stack([normalised.mean((1, 2, 3)), normalised.std((1, 2, 3))], dim=1),
                "intrinsics": torch.tensor(np.array(transforms) @ given),
            }
            outputs |= {f"{policy}_{step}{size}.{field}": value for field, value in fields.items()}
    return outputs


def _written(inputs: Mapping[str, torch.Tensor], folder: str) -> InputSet:
    """The images image0, image1, ... of a case as PNG files."""
    names = sorted((name for name in inputs if name.startswith("image")), key=lambda n: int(n[5:]))
    for name in names:
        Image.fromarray(inputs[name].cpu().numpy()).save(Path(folder) / f"{name}.png")
    return find_inputs(folder)


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
