"""What a procedural scene may look like: options with three presets."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError

KINDS = ("room", "outdoor", "mixed")
PATHS = ("orbit", "walk", "unordered", "mixed")
MOTIONS = ("wide", "medium", "narrow", "mixed")
ARRANGEMENTS = ("none", "facade", "street", "table", "statue")
SPECIAL_MOTIONS = ("forward", "rotation", "sideways", "scan", "drone", "around")
"""Hard cases that "mixed" never draws, so that scenes of earlier options stay what they were."""


@dataclass(frozen=True)
class SceneOptions:
    """Options of a procedural scene; ranges (low, high) are drawn from once a scene. Lengths in metres.

    Raises UsageError for the first option that is out of its range.
    """

    kind: str = "room"
    """room (seen from within), outdoor (terrain, buildings, trees, sky), or mixed (each scene draws one)."""
    path: str = "mixed"
    """orbit (around a focus), walk (a smooth sequence), unordered (random overlapping), or mixed."""
    motion: str = "wide"
    """Median rotation between two views: wide 29, medium 21, narrow 10.5 degrees, or mixed (one of these);
    forward drives along the camera's axis with small rotations, rotation turns about one fixed centre,
    sideways walks along what it sees, scan looks around from places near each other, drone (outdoors) flies
    to and fro and looks down, around goes round the focus by 8 to 45 degrees a view, at most a full turn."""
    fov_degrees: tuple[float, float] = (70.0, 70.0)
    """Field of view of the longer image side."""
    boxes: tuple[int, int] = (1, 3)
    spheres: tuple[int, int] = (0, 1)
    cylinders: tuple[int, int] = (0, 1)
    """Numbers of objects; outdoors boxes are buildings and each cylinder is a tree with a round crown."""
    texture_hardness: float = 0.0
    """Chance that a surface has a hard texture (brick, checker, noise, ...) instead of a smooth one."""
    texture_contrast: tuple[float, float] = (0.8, 1.2)
    """Strength of each surface's texture; near 0 is a plain wall."""
    saturation: tuple[float, float] = (1.0, 1.0)
    """How colourful each surface is; 0 is grey."""
    tile_length: tuple[float, float] = (0.6, 3.0)
    """Edge of one tile of a hard texture, which repeats; tripled outdoors."""
    texture_bank_seed: int = 0
    """Which bank of tiles the textures come from: hold one back for evaluation."""
    repeated: float = 0.0
    """Chance that a scene shows one and the same hard tile, size and colour on every surface."""
    haze_length: tuple[float, float] = (5.0, 5.0)
    """Distance at which 63 percent of the colour has faded to a fixed grey; tripled outdoors."""
    haze_free_share: float = 0.0
    """Share of scenes without any haze."""
    light_strength: float = 0.5
    """0: surfaces show their plain colour; 1: fully shaded by one light."""
    light_change: float = 0.0
    """Change of light position, exposure and tint from view to view, 0 to 1."""
    terrain_relief: float = 0.5
    """Outdoors: 0 flat to 1 hilly."""
    arrangement: str = "none"
    """What stands beside the objects: a facade with reliefs and columns before the cameras, or a street of
    buildings, cars and poles along their way, or a statue in their middle (outdoors), or a table with things
    on it (room)."""
    pictures: str = ""
    """Folder of pictures (photographs, materials) for surfaces; none where empty."""
    picture_share: float = 0.0
    """Chance that a surface shows one of the pictures."""
    shadows: float = 0.0
    """Share of the light that objects keep from what is behind them."""
    gloss: float = 0.0
    """Chance that a surface reflects the light, with a highlight that moves with the camera."""
    clouds: float = 0.0
    """Outdoors: strength of clouds in the sky."""
    samples_per_side: int = 1
    """1 or 3: colours average 1 or 9 rays a pixel; depth is that of the pixel centre in both."""

    def __post_init__(self) -> None:
        for name, choices in (
            ("kind", KINDS),
            ("path", PATHS),
            ("motion", MOTIONS + SPECIAL_MOTIONS),
            ("arrangement", ARRANGEMENTS),
        ):
            if getattr(self, name) not in choices:
                raise UsageError(
                    f"Scene option {name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}."
                )
        for name, low, high, whole in (
            ("fov_degrees", 10.0, 120.0, False),
            ("boxes", 0, 32, True),
            ("spheres", 0, 32, True),
            ("cylinders", 0, 32, True),
            ("texture_contrast", 0.0, 3.0, False),
            ("saturation", 0.0, 1.0, False),
            ("tile_length", 0.05, 100.0, False),
            ("haze_length", 0.5, 1e6, False),
        ):
            object.__setattr__(self, name, _checked_range(name, getattr(self, name), low, high, whole))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, float) and (not _is_number(value) or not 0 <= value <= 1):
                raise UsageError(f"Scene option {field.name} is {value!r}; it must lie from 0 to 1.")
        place = "room" if self.arrangement == "table" else "outdoor"
        place = self.kind if self.arrangement == "none" else place
        if self.kind != place:
            raise UsageError(
                f"Scene option arrangement is {self.arrangement!r}; this needs kind {place!r}, "
                f"not {self.kind!r}."
            )
        if self.motion == "drone" and self.kind != "outdoor":
            raise UsageError(f"Scene option motion is 'drone'; this needs kind 'outdoor', not {self.kind!r}.")
        if self.samples_per_side not in (1, 3):
            raise UsageError(f"Scene option samples_per_side is {self.samples_per_side!r}; choose 1 or 3.")
        seed = self.texture_bank_seed
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
            raise UsageError(f"Scene option texture_bank_seed is {seed!r}; it must be a whole number from 0.")

    @classmethod
    def easy(cls, **changes: Any) -> SceneOptions:
        """Easy cues, on which a small model starts to learn: smooth colours, haze, few objects."""
        return cls(**changes)

    @classmethod
    def medium(cls, **changes: Any) -> SceneOptions:
        """Half of the textures hard, haze of any length or none, more objects, 60 to 80 degrees."""
        values: dict[str, Any] = {
            "kind": "mixed",
            "fov_degrees": (60.0, 80.0),
            "boxes": (2, 5),
            "spheres": (0, 2),
            "cylinders": (0, 2),
            "texture_hardness": 0.5,
            "texture_contrast": (0.6, 1.3),
            "saturation": (0.4, 1.0),
            "haze_length": (4.0, 25.0),
            "haze_free_share": 0.3,
            "light_strength": 0.7,
            "light_change": 0.2,
        }
        return cls(**(values | changes))

    @classmethod
    def hard(cls, **changes: Any) -> SceneOptions:
        """Hard and weak textures, no haze, many objects, 50 to 85 degrees, changing light."""
        values: dict[str, Any] = {
            "kind": "mixed",
            "motion": "mixed",
            "fov_degrees": (50.0, 85.0),
            "boxes": (3, 7),
            "spheres": (0, 3),
            "cylinders": (0, 3),
            "texture_hardness": 0.9,
            "texture_contrast": (0.3, 1.4),
            "saturation": (0.1, 0.9),
            "tile_length": (0.4, 2.5),
            "haze_free_share": 1.0,
            "light_strength": 0.9,
            "light_change": 0.6,
            "terrain_relief": 1.0,
        }
        return cls(**(values | changes))

    @classmethod
    def at(cls, difficulty: float, **changes: Any) -> SceneOptions:
        """Options between the presets: 0 is easy, 0.5 medium, 1 hard, exactly; numbers in between are
        interpolated linearly (whole ones rounded), names are those of the nearest preset.

        Raises UsageError for a difficulty outside 0 to 1.
        """
        if not _is_number(difficulty) or not 0 <= difficulty <= 1:
            raise UsageError(f"The difficulty of scenes is {difficulty!r}; it must lie from 0 to 1.")
        low, high = (cls.easy(), cls.medium()) if difficulty <= 0.5 else (cls.medium(), cls.hard())
        share = 2 * difficulty if difficulty <= 0.5 else 2 * difficulty - 1
        values = {
            field.name: _between(getattr(low, field.name), getattr(high, field.name), share)
            for field in dataclasses.fields(cls)
        }
        return cls(**(values | changes))

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON-able values; `from_dict` reads them back."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SceneOptions:
        """Options from `to_dict`'s output; those left out keep their defaults, unknown ones are an error."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise UsageError(f"Unknown scene option {unknown[0]!r}; known are {', '.join(sorted(known))}.")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**values)


def _between(low: Any, high: Any, share: float) -> Any:
    if isinstance(low, tuple):
        return tuple(_between(a, b, share) for a, b in zip(low, high))
    if isinstance(low, str) or share in (0, 1):  # the ends exactly, without rounding
        return low if share < 0.5 else high
    value = low + (high - low) * share
    return round(value) if isinstance(low, int) and isinstance(high, int) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _checked_range(
    name: str, value: Any, low: float | int, high: float | int, whole: bool
) -> tuple[Any, Any]:
    pair = tuple(value) if isinstance(value, (list, tuple)) else ()
    good = len(pair) == 2 and all(_is_number(end) for end in pair) and low <= pair[0] <= pair[1] <= high
    if not good or (whole and any(not isinstance(end, int) for end in pair)):
        numbers = "whole numbers" if whole else "numbers"
        raise UsageError(
            f"Scene option {name} is {value!r}; it must be two {numbers} (low, high) "
            f"with {low} <= low <= high <= {high}."
        )
    return pair
