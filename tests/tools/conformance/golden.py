"""Makes folders of golden cases: our own models in float64, with sizes of our choosing, are the reference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tools.conformance.dispatch import find_handler
from tools.conformance.folder import Case
from tools.conformance.seeded import seeded_input
from torch import Tensor, nn


def inventory_of(build: Callable[[], nn.Module]) -> dict[str, Any]:
    """Names and shapes of a module's parameters."""
    with torch.device("meta"):
        state = build().state_dict()
    return {key: {"shape": list(v.shape), "dtype": "float32", "kind": "param"} for key, v in state.items()}


class Folder:
    """A folder of cases under construction; `add` computes the expected outputs and writes them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.entries: list[dict[str, Any]] = []

    def add(
        self,
        case_id: str,
        config: dict[str, Any],
        inputs: dict[str, Tensor | dict[str, Any]],
        outputs: dict[str, str],
        module: Callable[[], nn.Module] | None = None,
        salt: str = "",
    ) -> dict[str, Any]:
        """A case whose `outputs` (name to description) are what the code gives now, in float64.

        An input that is a dict is a recipe for a seeded one.
        """
        file = f"{case_id}.safetensors"
        inventory = None
        if module is not None:
            inventory = f"inventories/{case_id}.json"
            self._path(inventory).write_text(json.dumps({"tensors": inventory_of(module)}))
        stored = {f"in.{name}": v for name, v in inputs.items() if isinstance(v, Tensor)}
        entry: dict[str, Any] = {
            "id": case_id,
            "file": file,
            "inventory": inventory,
            "salt": salt,
            "config": config,
            "inputs": {
                name: {"shape": list(v.shape)}
                if isinstance(v, Tensor)
                else {"stored": False, "seeded_input": v, "shape": v["shape"]}
                for name, v in inputs.items()
            },
            "outputs": {name: {"about": about, "shape": []} for name, about in outputs.items()},
        }
        save_file(stored | {"in.unused": torch.zeros(1)}, self._path(file))
        expected = self._run(entry)
        for name, value in expected.items():
            spec = entry["outputs"][name]
            rms = float(value.double().square().mean().sqrt())
            spec |= {"shape": list(value.shape), "atol": 2e-5 * max(rms, 1e-3), "rtol": 2e-5}
        save_file(stored | {f"out.{k}": v.contiguous() for k, v in expected.items()}, self._path(file))
        self.entries.append(entry)
        self.write()
        return entry

    def write(self) -> None:
        (self.root / "cases.json").write_text(json.dumps(self.entries))

    def _path(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _run(self, entry: dict[str, Any]) -> dict[str, Tensor]:
        handler = find_handler(Case(self.root, entry, torch.float64))
        with torch.no_grad():
            values = handler(Case(self.root, entry, torch.float64))
        return {
            name: values[name].float() if values[name].is_floating_point() else values[name]
            for name in entry["outputs"]
        }


def seeded(name: str, *shape: int, low: float = -1.5, high: float = 1.5, salt: str = "") -> dict[str, Any]:
    """Recipe of a seeded input."""
    return {"name": name, "shape": list(shape), "salt": salt, "low": low, "high": high}


def random_input(name: str, *shape: int, low: float = -1.5, high: float = 1.5) -> Tensor:
    """The same as a stored input."""
    return seeded_input(name, shape, "", low, high)
