"""The plans of the result tables: every method of the package, with further settings of some."""

from __future__ import annotations

from manyview.attention.methods import METHODS

_SETTINGS = {
    "avggt": (
        "avggt", "avggt:early=0,stride=1x2", "avggt:early=0,stride=2x2", "avggt:early=0,stride=3x3",
        "avggt:early=0,stride=2x2,diagonal=false,mean=false",
    ),
    "httm": ("httm", "avggt:early=0,stride=2x2+httm"),
    "flash": ("flash", "flash:r=2"),
    "fastvggt": ("fastvggt",),
    "spark3r": ("spark3r:q=4,r=4",),
    "gotohunt": ("gotohunt:early=0,full=2,frames=8",),
    "anchors": ("anchors:frames=4", "anchors:frames=8", "anchors:frames=4,descriptors=4"),
    "blocksparse": ("blocksparse",),
    "random": ("random:keep=0.25", "random:keep=0.1"),
}  # fmt: skip

_NAMES = (*_SETTINGS, *(name for name in METHODS if name not in _SETTINGS))
ALL_PLANS = ("dense", "frame", *(spec for name in _NAMES for spec in _SETTINGS.get(name, (name,))))
FEW_PLANS = (
    "dense", "frame", "avggt", "avggt:early=0,stride=2x2", "avggt:early=0,stride=3x3", "httm", "flash:r=2",
    "anchors:frames=8", "anchors:frames=25",
)  # fmt: skip
MODELS = ("manyview-small",)
