"""What connects ranks, by a bandwidth and a latency: the links of `devices.json`."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import torch

from ...errors import UsageError

_FILE = Path(__file__).with_name("devices.json")


@dataclasses.dataclass(frozen=True)
class Link:
    """A connection between every two ranks, at its slowest place.

    Attributes:
        name: Of the link.
        about: What it is.
        source: Where the numbers are from.
        measured: Whether they were measured.
        bytes_per_s: What one rank receives in a collective operation while it sends as much.
        latency_s: Of one step of a collective operation.
    """

    name: str
    about: str
    source: str
    measured: bool
    bytes_per_s: float
    latency_s: float

    def seconds(self, received: float, ranks: int) -> float:
        """Time in which each of `ranks` ranks receives so many bytes from the others."""
        return (
            0.0 if ranks == 1 or not received else (ranks - 1) * self.latency_s + received / self.bytes_per_s
        )

    def said(self) -> str:
        """The link and how good an estimate by it is, for a sentence."""
        return f"{self.name} ({'measured' if self.measured else 'estimated, not measured'})"


@functools.cache
def known_links() -> dict[str, Link]:
    """The links of the file by name."""
    links = (Link(**one) for one in json.loads(_FILE.read_text(encoding="utf-8"))["links"])
    return {link.name: link for link in links}


def link_named(name: str) -> Link:
    """The link of that name; UsageError names those that there are."""
    if name not in known_links():
        raise UsageError(f"there is no link {name!r}: choose from {', '.join(known_links())}")
    return known_links()[name]


def likely_link(device: torch.device, capability: tuple[int, int] | None = None) -> Link:
    """What connects such devices of one host, as far as can be told; the slower one where it cannot."""
    if device.type != "cuda":
        return known_links()["loopback"]
    return known_links()["nvlink4" if (capability or (0, 0)) >= (9, 0) else "pcie4"]
