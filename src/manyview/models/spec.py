"""What a network family declares of itself: all that loading its weights needs to know."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from ..attention.auto import SuitedPlans
from ..errors import UsageError, WeightsError
from .checkpoints.assign import assign_weights
from .checkpoints.keys import Shape
from .checkpoints.metadata import stored_config
from .checkpoints.named import NamedModel
from .checkpoints.read import Checkpoint
from .checkpoints.shapes import Shapes
from .config import NetworkConfig
from .network import Network


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A family of networks. Its folder holds one of these, and `families.FAMILIES` lists it.

    Attributes:
        name: Name of the family in messages.
        keys: Beginnings of tensor names that must all occur in a checkpoint of it.
        config: The class of its sizes.
        network: The network of such sizes, with weights not yet given.
        infer_config: Sizes from the shapes of a checkpoint that does not state them (None: it must); hints
            by name for what shapes do not tell.
        head_keys: Beginnings of the tensor names of each head that a checkpoint may lack.
        models: Weights that have a name.
        example: Weights to name in messages, as a hub id.
        only_public: Nobody but the publishers has trained such weights, so that their licence holds for a
            file that states none.
        prepare: Adapts an empty network to a checkpoint before it gets its tensors.
        used: The tensors of a checkpoint that the network has (None: all).
        trained_for: The plan that a checkpoint shows to have been trained for.
        suited: Which plans keep the accuracy of weights of this family, for `--accel auto`.
    """

    name: str
    keys: tuple[str, ...]
    config: type[NetworkConfig]
    network: Callable[[Any], Network]
    infer_config: Callable[..., NetworkConfig] | None = None
    head_keys: Mapping[str, str] = dataclasses.field(default_factory=dict)
    models: tuple[NamedModel, ...] = ()
    example: str = ""
    only_public: bool = False
    prepare: Callable[[Any, Checkpoint], None] | None = None
    used: Callable[[Checkpoint], Mapping[str, Tensor]] | None = None
    trained_for: Callable[[Checkpoint], str | None] | None = None
    suited: SuitedPlans = dataclasses.field(default_factory=SuitedPlans)

    def matches(self, keys: Collection[str]) -> bool:
        """Whether tensors of these names are a checkpoint of this family."""
        return all(any(key.startswith(start) for key in keys) for start in self.keys)

    def config_from_shapes(
        self, shapes: Mapping[str, Shape], source: str = "the checkpoint", **hints: Any
    ) -> Any:
        """The sizes by the shapes of a checkpoint's tensors. Raises WeightsError where they do not fit."""
        if self.infer_config is None:
            raise WeightsError(f"{source} does not state its configuration, which a {self.name} needs")
        lacking = [start for start in self.keys if not any(key.startswith(start) for key in shapes)]
        if lacking:
            some = ", ".join(list(shapes)[:3])
            raise WeightsError(
                f"{source} is not a {self.name} checkpoint: expected {lacking[0]}, found keys such as {some}"
            )
        try:
            return self.infer_config(Shapes(shapes, source, self.name), **hints)
        except ValueError as error:
            raise WeightsError(f"{source} is not a {self.name}: {error}") from error

    def config_of(self, checkpoint: Checkpoint) -> NetworkConfig:
        """The sizes that ManyView stored in the file or beside it, else those of the tensors' shapes."""
        stored = stored_config(checkpoint)
        if stored is None:  # bounds hold for what shapes say, too
            stored = self.config_from_shapes(checkpoint.shapes, checkpoint.source).to_json()
        try:
            return self.config.from_json(stored)
        except (TypeError, ValueError) as error:
            raise WeightsError(
                f"{checkpoint.source}: its configuration is not one of a {self.name}: {error}"
            ) from error

    def heads_in(self, keys: Collection[str]) -> tuple[str, ...]:
        """Names of the heads that have any tensor."""
        return tuple(
            name for name, start in self.head_keys.items() if any(key.startswith(start) for key in keys)
        )

    def build(
        self,
        checkpoint: Checkpoint,
        *,
        device: torch.device | str | None = None,
        heads: tuple[str, ...] | None = None,
    ) -> Network:
        """The network with the tensors of a checkpoint, in `eval` mode; weights are held once.

        Args:
            checkpoint: Tensors of this family.
            device: Where to (None: where the tensors are).
            heads: Heads to keep (None: all there are).

        Raises:
            UsageError: A head of `heads` is not there.
            WeightsError: Names or shapes of tensors are not those of the network, or a number is not finite.
        """
        config = self.config_of(checkpoint)
        present = config.available_heads
        there = self.heads_in(checkpoint.tensors)
        absent = [name for name in present if name in self.head_keys and name not in there]
        if absent:
            raise WeightsError(
                f"{checkpoint.source}: its configuration has a {absent[0]} head, but the file has no "
                "tensor of it"
            )
        keep = present if heads is None else heads
        lacking = [name for name in keep if name not in present]
        if lacking:
            have = ", ".join(present) or "none"
            raise UsageError(f"{checkpoint.source} has no {lacking[0]} head; it has: {have}")
        with torch.device("meta"):
            model = self.network(config.with_heads(keep))
            if self.prepare is not None:
                self.prepare(model, checkpoint)
        dropped = tuple(
            self.head_keys[name] for name in present if name in self.head_keys and name not in keep
        )
        found = checkpoint.tensors if self.used is None else self.used(checkpoint)
        tensors = {key: value for key, value in found.items() if not key.startswith(dropped)}
        assign_weights(model, tensors, checkpoint.source, device=device)
        return model.eval()

    def published_as(self, checkpoint: Checkpoint) -> NamedModel | None:
        """The public weights whose file has this name, for a file that ManyView did not write."""
        name = checkpoint.files[0].name.lower() if checkpoint.files else ""
        rows = (row for row in self.models if row.hub_id is not None and row.file == name)
        return None if checkpoint.metadata else next(rows, None)
