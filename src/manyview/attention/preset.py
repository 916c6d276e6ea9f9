"""A published method by name: its options, and what each layer of a network does under it."""

from __future__ import annotations

from typing import ClassVar

from ..errors import UsageError
from .global_attention import GlobalAttention


class Preset:
    """Options of a method, a frozen dataclass whose fields a plan spec sets (`avggt:stride=2x2`).

    `name` is what plan specs call it, `paper` its source, `about` what a layer does, in a line. Fields may be
    int, float, bool, a Literal of strings, a pair of int, or one of these or None.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    about: ClassVar[str]

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        """What each of `depth` global layers does; raises UsageError for layers that are not there."""
        raise NotImplementedError

    def camera(self) -> GlobalAttention | None:
        """Attention between frames in a camera head that has it (None: every frame attends to all)."""
        return None

    def check_layers(self, depth: int, **numbers: int) -> None:
        """Raises UsageError unless the options are numbers of layers, in rising order, up to `depth`."""
        if list(numbers.values()) != sorted(numbers.values()) or not all(
            0 <= number <= depth for number in numbers.values()
        ):
            given = " and ".join(f"{option}={number}" for option, number in numbers.items())
            raise UsageError(
                f"{self.name}: {given} must be numbers of layers from 0 to {depth}, in rising order"
            )

    def check_range(self, depth: int, option: str, first: int, last: int) -> None:
        """Raises UsageError unless `first` to `last` are layers of the network."""
        if not 0 <= first <= last < depth:
            raise UsageError(f"{self.name}: {option}={first}x{last} must be layers among 0 to {depth - 1}")
