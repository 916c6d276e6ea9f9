"""The network families there are, and the weights of theirs that have a name."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import torch

from ..attention.auto import SuitedPlans
from ..errors import WeightsError
from .checkpoints.named import NamedModel
from .checkpoints.read import Checkpoint
from .config import NetworkConfig
from .da3.mono_spec import MONO_SPEC
from .da3.nested_spec import NESTED_SPEC
from .da3.spec import SPEC as DA3
from .network import Network
from .omega.spec import SPEC as OMEGA
from .pi3.spec import PI3_SPEC, PI3X_SPEC
from .spec import ModelSpec
from .vggt.spec import SPEC as VGGT

FAMILIES: tuple[ModelSpec, ...] = (VGGT, PI3_SPEC, PI3X_SPEC, OMEGA, DA3, MONO_SPEC, NESTED_SPEC)
"""A new network is a folder with a `ModelSpec`, and an entry here."""

MODELS: tuple[NamedModel, ...] = tuple(row for family in FAMILIES for row in family.models)

REPLACED = {"manyview-small-elastic": "manyview-small", "manyview-flash-stream": "manyview-flash"}
"""Names of weights that the package had in earlier releases, and what to use in their place."""


# (name, beginnings of keys that must all occur); the first line that fits names the checkpoint.
_FOREIGN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("DUSt3R or MASt3R", ("enc_blocks.", "dec_blocks2.", "downstream_head1.")),
    ("CroCo", ("enc_blocks.", "dec_blocks.", "mask_token")),
    ("MapAnything", ("info_sharing.", "encoder.")),
    ("Depth Anything", ("pretrained.blocks.", "depth_head.")),
    ("a DPT depth network", ("backbone.", "neck.fusion_stage.")),
    ("Segment Anything", ("image_encoder.", "mask_decoder.")),
    ("DINOv3", ("rope_embed.periods", "storage_tokens", "blocks.")),
    ("DINOv2", ("cls_token", "pos_embed", "blocks.0.ls1.gamma", "patch_embed.proj.")),
    ("DINOv2 (transformers format)", ("embeddings.cls_token", "encoder.layer.0.")),
    ("a vision transformer", ("cls_token", "pos_embed", "blocks.0.")),
    ("CLIP", ("visual.", "token_embedding.")),
    ("a diffusion network", ("down_blocks.", "up_blocks.")),
    ("a language model", ("layers.0.self_attn.", "embed_tokens.")),
    ("a ResNet", ("conv1.weight", "layer1.0.", "fc.weight")),
)


def family_of(keys: Collection[str]) -> ModelSpec | None:
    """The family that tensors of these names belong to: of several that fit, the one that needs most keys."""
    return max((f for f in FAMILIES if f.matches(keys)), key=lambda f: len(f.keys), default=None)


def required_family(checkpoint: Checkpoint) -> ModelSpec:
    """The family of a checkpoint. Raises WeightsError, saying what else it is where that is known."""
    found = family_of(checkpoint.tensors)
    if found is not None:
        return found
    names = f"{', '.join(family.name for family in FAMILIES[:-1])} or {FAMILIES[-1].name}"
    foreign = _foreign_architecture(checkpoint.tensors)
    if foreign is not None:
        raise WeightsError(
            f"{checkpoint.source} is a checkpoint of {foreign}, not of {names}: use weights such as "
            f"{FAMILIES[0].example}"
        )
    some = ", ".join(list(checkpoint.tensors)[:3])
    raise WeightsError(f"{checkpoint.source} is not a checkpoint of {names}: found keys such as {some}")


def suited_plans(model: Network) -> SuitedPlans:
    """What is known of a network's weights and family about plans."""
    families = (family.suited for family in FAMILIES if type(model.config) is family.config)
    suited = next(families, SuitedPlans())
    if model.info is None:
        return suited
    return dataclasses.replace(
        suited, trained_for=model.info.plan, also=model.info.also, early=model.info.early_layers
    )


def find_model(name: str) -> NamedModel | None:
    """The first row whose short name, hub id, or hub id with file is `name`, in any case of letters.

    Raises WeightsError for a name that is gone.
    """
    instead = REPLACED.get(name.lower())
    if instead is not None:
        raise WeightsError(f"the weights {name.lower()} are gone since this release: use {instead}")
    return next((row for row in MODELS if name.lower() in row.names), None)


def empty_network(config: NetworkConfig) -> Network:
    """A network of such sizes on the meta device: shapes without values."""
    with torch.device("meta"):
        return next(family.network(config) for family in FAMILIES if type(config) is family.config)


def model_names() -> str:
    """The short names, for messages."""
    return ", ".join(row.name for row in MODELS)


def _foreign_architecture(keys: Collection[str]) -> str | None:
    """Name of the architecture, none of ours, that these keys belong to, or None."""
    for name, needed in _FOREIGN:
        if all(any(key.startswith(start) for key in keys) for start in needed):
            return name
    return None
