"""Photos that several ranks read, each its own: what they tell one another of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ...distributed.ranks import Ranks
from .decode import ImageReadError
from .header import unusable_files
from .network_image import NetworkImage, Sizing
from .options import InputFile
from .views import ViewRecord

View = tuple[ViewRecord, NetworkImage]


def unusable_of_all(
    files: Sequence[InputFile], sizing: Sizing, everyone: Ranks
) -> list[tuple[int, ImageReadError]]:
    """`unusable_files` of all files, of which each rank opens some."""
    step, rank = everyone.split.ranks, everyone.split.rank
    own = [(rank + step * place, error) for place, error in unusable_files(files[rank::step], sizing)]
    return sorted((one for part in everyone.objects(own) for one in part), key=lambda one: one[0])


def views_of_all(own: Sequence[View], files: Sequence[InputFile], everyone: Ranks) -> list[View]:
    """The views of all `files`, in order, from what each rank read; without their pixels."""
    told = [
        (dataclasses.replace(record, image=None), {**vars(view), "pixels": view.pixels.shape})
        for record, view in own
    ]
    found = [one for part in everyone.objects(told) for one in part]
    return [
        (
            dataclasses.replace(record, image=file.image),
            NetworkImage(**{**facts, "pixels": np.broadcast_to(np.uint8(0), facts["pixels"])}),
        )
        for file, (record, facts) in zip(files, found, strict=True)
    ]
