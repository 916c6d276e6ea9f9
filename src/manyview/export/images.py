"""Small images of views, their depth and confidence, for pages and the viewer."""

from __future__ import annotations

import base64
import io

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from .colours import colour_map


def depth_image(
    z_depth: Float[np.ndarray, "height width"], valid: Bool[np.ndarray, "height width"], unknown: int = 128
) -> UInt8[np.ndarray, "height width 3"]:
    """Near bright, far dark, over the range of this view; the grey value `unknown` where not valid."""
    return _mapped(1.0 / np.where(valid, z_depth, 1.0), valid, "magma", None, unknown)


def confidence_image(
    conf: Float[np.ndarray, "height width"],
    valid: Bool[np.ndarray, "height width"],
    limits: tuple[float, float] | None = None,
    unknown: int = 128,
) -> UInt8[np.ndarray, "height width 3"]:
    """Confidence over `limits` (None: the range of this view); the grey value `unknown` where not valid."""
    return _mapped(np.where(valid, conf, 0.0), valid, "viridis", limits, unknown)


def thumbnail(
    image: UInt8[np.ndarray, "height width 3"], longest: int
) -> UInt8[np.ndarray, "small_height small_width 3"]:
    """The image with its longer side at most `longest` pixels."""
    small = Image.fromarray(image)
    small.thumbnail((longest, longest))
    return np.asarray(small)


def data_uri(image: UInt8[np.ndarray, "height width channels"], quality: int | None = None) -> str:
    """The image as a data URI: JPEG if a `quality` is given, else PNG (RGBA allowed)."""
    kind = "png" if quality is None else "jpeg"
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **({} if quality is None else {"quality": quality}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _mapped(
    values: Float[np.ndarray, "h w"],
    valid: Bool[np.ndarray, "h w"],
    name: str,
    limits: tuple[float, float] | None,
    unknown: int,
) -> UInt8[np.ndarray, "h w 3"]:
    if not valid.any():
        return np.full((*values.shape, 3), unknown, dtype=np.uint8)
    low, high = limits or tuple(np.percentile(values[valid], (2, 98)))
    scaled = (values - low) / max(high - low, 1e-12)
    return np.where(valid[..., None], colour_map(scaled, name), np.uint8(unknown))
