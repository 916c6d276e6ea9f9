"""Regular samples of token tensors, described in words."""

from __future__ import annotations

import re

from torch import Tensor


def sample(tokens: Tensor, about: str) -> Tensor:
    """Tokens [..., tokens, channels] (or [..., channels]) at the steps that `about` gives in words.

    "every 8th channel", "channels 5, 37, ..." (start and second one), "patches 0, 7, ..." likewise.
    """
    channels = slice(None)
    if match := re.search(r"every (\d+)(?:st|nd|rd|th) channel", about):
        channels = slice(None, None, int(match.group(1)))
    elif match := re.search(r"channels (\d+), (\d+)", about):
        first, second = int(match.group(1)), int(match.group(2))
        channels = slice(first, None, second - first)
    if match := re.search(r"(?:tokens|patches):? (\d+), (\d+)", about):
        first, second = int(match.group(1)), int(match.group(2))
        tokens = tokens[..., first :: second - first, :]
    return tokens[..., channels]
