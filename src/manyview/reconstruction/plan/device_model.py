"""How fast a device is, by a few rates: those of `devices.json`, or scaled from them for a card not in it.

Nothing is measured here and nothing depends on what else a machine does, so that a choice by expected time is
the same each time. Rates that were measured on a card replace estimated ones in `devices.json`
(`DeviceModel.to_json` is an entry of its list).
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import torch

_FILE = Path(__file__).with_name("devices.json")


@dataclasses.dataclass(frozen=True)
class DeviceModel:
    """Rates that a device reaches.

    Attributes:
        name: Of the device; a card whose name begins with it has these rates.
        source: Where the numbers are from.
        measured: Whether they were measured on such a device.
        bytes_per_s: Of elementwise operations, reads and writes together.
        strided_share: Share of it in plain norms of a head's channels and in plain rotations.
        products: FLOP/s of matrix products at a network's sizes, by precision ("fp32", "bf16", ...).
        attention: FLOP/s of fused attention with 64 channels a head, by precision.
        convolutions: FLOP/s of convolutions, by precision.
        dispatch_s: Time of the host for one operation.
        link_bytes_per_s: Between the host and the device (None: the same memory).
        capability: Compute capability of a CUDA device (None: of a CPU).
        multiprocessors: Of a CUDA device.
        clock_hz: Highest clock of its multiprocessors.
        memory_bytes: Memory of such a card (None: not known here).
    """

    name: str
    source: str
    measured: bool
    bytes_per_s: float
    strided_share: float
    products: dict[str, float]
    attention: dict[str, float]
    convolutions: dict[str, float]
    dispatch_s: float
    link_bytes_per_s: float | None = None
    capability: tuple[int, int] | None = None
    multiprocessors: int = 1
    clock_hz: float = 0.0
    memory_bytes: float | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON types, as in `devices.json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> DeviceModel:
        """The inverse of `to_json`."""
        capability = values.get("capability")
        known = dict(values, capability=None if capability is None else tuple(capability))
        return cls(**known)

    def scaled(self, compute: float, memory: float) -> DeviceModel:
        """Rates of arithmetic and of memory times these factors."""

        def times(rates: dict[str, float]) -> dict[str, float]:
            return {precision: rate * compute for precision, rate in rates.items()}

        return dataclasses.replace(
            self,
            bytes_per_s=self.bytes_per_s * memory,
            products=times(self.products),
            attention=times(self.attention),
            convolutions=times(self.convolutions),
        )

    def said(self) -> str:
        """How good an estimate by these rates is, for a sentence."""
        if self.capability is None:
            return "estimated by rates of another CPU"
        return (
            f"by rates measured on {self.name}" if self.measured else "estimated, not measured on this card"
        )


@dataclasses.dataclass(frozen=True)
class Card:
    """What PyTorch tells of a CUDA device; clocks and width of the memory are None where it does not."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    clock_hz: float | None = None
    bytes_per_s: float | None = None

    @classmethod
    def of(cls, device: torch.device) -> Card | None:
        """The card of a device; None where PyTorch sees none."""
        if not torch.cuda.is_available():
            return None
        found = torch.cuda.get_device_properties(device)
        clock, memory, width = (
            getattr(found, name, None) for name in ("clock_rate", "memory_clock_rate", "memory_bus_width")
        )
        moved = 2.0 * memory * 1e3 * width / 8 if memory and width else None  # kHz, two transfers, bits
        size = (found.major, found.minor)
        return cls(found.name, size, found.multi_processor_count, clock * 1e3 if clock else None, moved)


def device_model(device: torch.device) -> DeviceModel | None:
    """The rates of a device: a CPU's for PyTorch's threads, those of a card, or None for other devices."""
    if device.type == "cpu":
        core, threads = known_devices()["CPU"], torch.get_num_threads()
        return core.scaled(threads, threads)
    if device.type != "cuda":
        return None
    card = Card.of(device)
    return known_devices()["NVIDIA H100"] if card is None else card_model(card)


def card_model(card: Card) -> DeviceModel:
    """The rates of a card: of the list if its name is there, else scaled from the nearest capability."""
    cards = [model for model in known_devices().values() if model.capability is not None]
    named = [model for model in cards if card.name.startswith(model.name)]
    if named:
        return max(named, key=lambda model: (model.measured, len(model.name)))
    like = min(cards, key=lambda model: abs(_order(model.capability) - _order(card.capability)))
    assert like.capability is not None
    compute = _speed(card.capability) / _speed(like.capability) * card.multiprocessors / like.multiprocessors
    compute *= 1.0 if card.clock_hz is None else card.clock_hz / like.clock_hz
    # Nine tenths of what the memory's clock allows are reached.
    memory = compute if card.bytes_per_s is None else 0.9 * card.bytes_per_s / like.bytes_per_s
    source = f"scaled from {like.name} by what PyTorch tells of this card"
    scaled = like.scaled(compute, memory)
    return dataclasses.replace(scaled, name=card.name, source=source, measured=False, memory_bytes=None)


@functools.cache
def known_devices(path: Path = _FILE) -> dict[str, DeviceModel]:
    """The devices of the file by name; "CPU" is one core."""
    values = json.loads(path.read_text(encoding="utf-8"))
    models = (DeviceModel.from_json(one) for one in (*values["devices"], values["cpu_core"]))
    return {model.name: model for model in models}


def _speed(capability: tuple[int, int]) -> float:
    """Products of a multiprocessor at one clock beside capability 9.0's, by the nearest that is known."""
    table = json.loads(_FILE.read_text(encoding="utf-8"))["speed_of_multiprocessors"]["by_capability"]
    nearest = min(table, key=lambda known: abs(round(10 * float(known)) - _order(capability)))
    return float(table[nearest])


def _order(capability: tuple[int, int] | None) -> int:
    major, minor = capability or (0, 0)
    return 10 * major + minor
