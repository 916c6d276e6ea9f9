"""Pi3X: π³ with a convolutional head and metric scale. Its optional inputs are not here."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...attention.layout import TokenLayout
from ..rotary import frame_positions, rotation_for
from .config import Pi3Config, Pi3XConfig
from .conv_head import ConvHead
from .metric import MetricDecoder
from .model import Pi3

_MOST_LOG_DEPTH = 15.0


class Pi3X(Pi3):
    """Pi3X without its multimodal branch, which changes nothing where no camera or depth is given."""

    config: Pi3XConfig

    def _add_pixel_heads(self, config: Pi3Config) -> None:
        assert isinstance(config, Pi3XConfig)
        widths, last = config.conv_widths, config.conv_last
        self.point_head = ConvHead(config.point_dim, widths, (2, 1), last)  # type: ignore[assignment]
        self.conf_head = ConvHead(config.confidence_dim, widths, (1,), last)  # type: ignore[assignment]
        self.metric_token = nn.Parameter(torch.zeros(1, 1, 2 * config.dim))
        self.metric_decoder = MetricDecoder(
            2 * config.dim, config.metric_dim, config.decoder_depth, config.metric_heads, config.metric_out
        )
        self.metric_head = nn.Linear(config.metric_out, 1)

    def _local_points(self, x: Tensor, layout: TokenLayout) -> Float[Tensor, "n height width 3"]:
        xy, log_z = self.point_head(x, layout.grid, self._size(layout))  # type: ignore[call-arg]
        z = log_z.clamp(max=_MOST_LOG_DEPTH).exp()
        return torch.cat([xy * z, z], 1).movedim(1, 3)

    def _logits(self, x: Tensor, layout: TokenLayout) -> Float[Tensor, "n height width 1"]:
        (logits,) = self.conf_head(x, layout.grid, self._size(layout))  # type: ignore[call-arg]
        return logits.movedim(1, 3)

    def _size(self, layout: TokenLayout) -> tuple[int, int]:
        rows, columns = layout.grid
        return rows * self.config.patch_size, columns * self.config.patch_size

    def _metric_scale(self, hidden: Tensor, layout: TokenLayout, batch: int) -> Tensor:
        rotation = rotation_for(
            frame_positions(layout.grid, layout.special_tokens, hidden.device),
            self.config.metric_dim // self.config.metric_heads,
            self.config.rope_base,
        )
        query = self.metric_token.expand(batch, -1, -1)
        context = hidden.unflatten(0, (batch, -1)).flatten(1, 2).to(query.dtype)
        return self.metric_head(self.metric_decoder(query, context, rotation))[:, 0, 0].exp()
