"""Semi-global matching: costs of depths, made smooth along straight paths through the image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_STEP, _JUMP = 0.06, 0.6
"""Cost of a change by one label between neighbouring pixels, and of any other change..."""
_EDGE = 0.06
"""...which is halved where grey levels (of 0 to 1) differ by this much."""


def smooth_costs(
    volume: Float[Tensor, "height width labels"], image: Float[Tensor, "height width"]
) -> Float[Tensor, "height width labels"]:
    """Sum of the costs of the cheapest paths to each pixel and label, from eight directions.

    Hirschmüller, "Stereo processing by semiglobal matching and mutual information", TPAMI 2008, equation 13.
    """
    down = _swept(volume, image, (-1, 0, 1))
    across = _swept(volume.transpose(0, 1).contiguous(), image.T.contiguous(), (0,))
    return down + across.transpose(0, 1)


def _swept(
    volume: Float[Tensor, "rows width labels"], image: Float[Tensor, "rows width"], slants: tuple[int, ...]
) -> Float[Tensor, "rows width labels"]:
    """Paths from the first row to the last and back, straight and along diagonals."""
    rows, width, labels = volume.shape
    total = torch.zeros_like(volume)
    before: Tensor | None = None
    for row in range(rows):
        ends = torch.stack([volume[row], volume[rows - 1 - row]])[:, None]
        if before is None:
            before = ends.expand(2, len(slants), width, labels)
        else:
            grey = torch.stack([image[row], image[rows - 1 - row]])
            last_grey = torch.stack([image[row - 1], image[rows - row]])
            came = torch.stack([_shifted(before[:, i], slant) for i, slant in enumerate(slants)], dim=1)
            change = torch.stack([(grey - _shifted(last_grey, slant)).abs() for slant in slants], dim=1)
            jump = _JUMP / (1 + change / _EDGE) + _STEP
            least = came.amin(-1, keepdim=True)
            padded = F.pad(came, (1, 1), value=float("inf"))
            step = torch.minimum(padded[..., 2:], padded[..., :-2]).add_(_STEP)
            cheapest = torch.minimum(torch.minimum(came, step), least + jump[..., None])
            before = cheapest.sub_(least).add_(ends)
        total[row] += before[0].sum(0)
        total[rows - 1 - row] += before[1].sum(0)
    return total


def _shifted(maps: Float[Tensor, "two width *labels"], by: int) -> Float[Tensor, "two width *labels"]:
    """Moved along the row, the pixel at the edge repeated."""
    if by == 0:
        return maps
    first, last = (maps[:, :1], maps[:, :-1]) if by > 0 else (maps[:, 1:], maps[:, -1:])
    return torch.cat([first, last], dim=1)


def cheapest_label(
    volume: Float[Tensor, "height width labels"],
) -> tuple[Float[Tensor, "height width"], Tensor]:
    """(label of the least cost, between labels by a parabola; the whole label)."""
    labels = volume.shape[-1]
    label = volume.argmin(-1, keepdim=True)
    inner = label.clamp(1, labels - 2)
    before, at, after = (volume.gather(-1, inner + offset)[..., 0] for offset in (-1, 0, 1))
    curve = before - 2 * at + after
    offset = torch.where(curve > 1e-9, 0.5 * (before - after) / curve.clamp(min=1e-9), 0.0).clamp(-0.5, 0.5)
    label = label[..., 0]
    return torch.where(label == inner[..., 0], label + offset, label.float()), label
