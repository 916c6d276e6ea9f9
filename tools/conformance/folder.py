"""Reading a folder of golden cases."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from manyview.errors import UsageError
from tools.conformance.seeded import constant_buffers, seeded_input, seeded_state_dict

_REQUIRED = ("id", "file", "config", "inputs", "outputs")


class UnusableFolder(UsageError):
    """The folder, or its index, is not a collection of golden cases."""


class BrokenCase(Exception):
    """The files of one case are missing or contradict its entry; the message says which."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One entry of `cases.json`: what to build, what to feed it, what must come out.

    `inventory_path` is None for cases without weights. Floating inputs and weights come in `dtype` on
    `device`; expected outputs as stored.
    """

    root: Path
    entry: dict[str, Any]
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @property
    def id(self) -> str:
        return self.entry["id"]

    @property
    def group(self) -> str:
        return self.id.split("/", 1)[0]

    @property
    def name(self) -> str:
        return self.id.split("/", 1)[-1]

    @property
    def config(self) -> dict[str, Any]:
        return self.entry["config"]

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        return self.entry["outputs"]

    @functools.cached_property
    def inventory(self) -> dict[str, dict[str, Any]]:
        """Key to {"shape", "dtype", "kind"}; empty for a case without weights."""
        name = self.entry.get("inventory")
        if name is None:
            return {}
        try:
            data = json.loads((self.root / name).read_text(encoding="utf-8"))
            return data.get("tensors", data)
        except (OSError, ValueError, AttributeError) as error:
            raise BrokenCase(f"inventory {name} cannot be read: {error}") from error

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights, read without making them."""
        return {key: tuple(value["shape"]) for key, value in self.inventory.items()}

    def weights(self) -> dict[str, Tensor]:
        """The seeded weights and constant buffers, under the names of the inventory."""
        return seeded_state_dict(self.inventory, self.entry.get("salt", "")) | constant_buffers(
            self.inventory
        )

    @functools.cached_property
    def _stored(self) -> dict[str, Tensor]:
        path = self.root / self.entry["file"]
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise BrokenCase(f"{self.entry['file']} cannot be read: {error}") from error

    @functools.cached_property
    def inputs(self) -> dict[str, Tensor]:
        """Every input, stored or seeded."""
        found = {}
        for name, spec in self.entry["inputs"].items():
            if spec.get("stored", True):
                if f"in.{name}" not in self._stored:
                    raise BrokenCase(f"{self.entry['file']} lacks the input {name}")
                value = self._stored[f"in.{name}"]
            else:
                recipe = spec["seeded_input"]
                value = seeded_input(
                    recipe["name"],
                    recipe["shape"],
                    recipe.get("salt", ""),
                    recipe.get("low", -1.0),
                    recipe.get("high", 1.0),
                )
            found[name] = value.to(self.device, self.dtype if value.is_floating_point() else None)
        return found

    @functools.cached_property
    def expected(self) -> dict[str, Tensor]:
        """Every stored output; it must agree with the entry about which there are."""
        found = {key[4:]: value for key, value in self._stored.items() if key.startswith("out.")}
        if found.keys() != self.outputs.keys():
            odd = sorted(found.keys() ^ self.outputs.keys())
            raise BrokenCase(
                f"{self.entry['file']} and its entry disagree about the outputs {', '.join(odd)}"
            )
        return found


def read_cases(root: Path | str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> list[Case]:
    """All cases of a folder, in the order of its index; UnusableFolder if there is no valid index."""
    root = Path(root)
    index = root / "cases.json"
    if not root.is_dir():
        raise UnusableFolder(f"{root} is not a folder: give one that holds a cases.json")
    if not index.is_file():
        raise UnusableFolder(f"{root} holds no cases.json: it is not a folder of golden cases")
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnusableFolder(f"{index} is not readable JSON: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise UnusableFolder(f"{index} holds no list of cases")
    for number, entry in enumerate(entries):
        lacking = [key for key in _REQUIRED if not isinstance(entry, dict) or key not in entry]
        if lacking:
            raise UnusableFolder(f"{index}: entry {number} lacks {', '.join(lacking)}")
    return [Case(root, entry, dtype, device) for entry in entries]
