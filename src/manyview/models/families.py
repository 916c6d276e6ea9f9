"""The network families there are, and the weights of theirs that have a name."""

from __future__ import annotations

from collections.abc import Collection

from ..errors import WeightsError
from .checkpoints.named import NamedModel
from .checkpoints.read import Checkpoint
from .checkpoints.recognise import foreign_architecture
from .omega.spec import SPEC as OMEGA
from .pi3.spec import PI3_SPEC, PI3X_SPEC
from .spec import ModelSpec
from .vggt.spec import SPEC as VGGT

FAMILIES: tuple[ModelSpec, ...] = (VGGT, PI3_SPEC, PI3X_SPEC, OMEGA)
"""A new network is a folder with a `ModelSpec`, and an entry here."""

MODELS: tuple[NamedModel, ...] = tuple(row for family in FAMILIES for row in family.models)


def family_of(keys: Collection[str]) -> ModelSpec | None:
    """The family that tensors of these names belong to: of several that fit, the one that needs most keys."""
    return max((f for f in FAMILIES if f.matches(keys)), key=lambda f: len(f.keys), default=None)


def required_family(checkpoint: Checkpoint) -> ModelSpec:
    """The family of a checkpoint. Raises WeightsError, saying what else it is where that is known."""
    found = family_of(checkpoint.tensors)
    if found is not None:
        return found
    names = f"{', '.join(family.name for family in FAMILIES[:-1])} or {FAMILIES[-1].name}"
    foreign = foreign_architecture(checkpoint.tensors)
    if foreign is not None:
        raise WeightsError(
            f"{checkpoint.source} is a checkpoint of {foreign}, not of {names}: use weights such as "
            f"{FAMILIES[0].example}"
        )
    some = ", ".join(list(checkpoint.tensors)[:3])
    raise WeightsError(f"{checkpoint.source} is not a checkpoint of {names}: found keys such as {some}")


def find_model(name: str) -> NamedModel | None:
    """The first row whose short name, hub id, or hub id with file is `name`, in any case of letters."""
    return next((row for row in MODELS if name.lower() in row.names), None)


def model_names() -> str:
    """The short names, for messages."""
    return ", ".join(row.name for row in MODELS)
