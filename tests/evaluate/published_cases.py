"""Inputs, and what published evaluation code made of them: `tests/data/evaluation`, larger ones ../shared.

`cases.json` says which function of which repository and version, and how far a figure may be off. Outputs
that begin with `trap_` are those of a tempting wrong protocol.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_FOLDER = Path(__file__).resolve().parents[1] / "data" / "evaluation"
_SHARED = Path(__file__).resolve().parents[3] / "shared" / "reference" / "evaluation"


@dataclasses.dataclass(frozen=True, eq=False)
class PublishedCase:
    """One case: `inputs` by name, `outputs` of the published function by name."""

    inputs: dict[str, np.ndarray]
    outputs: dict[str, Any]
    tolerance: dict[str, Any]

    def close(self, name: str, value: Any) -> bool:
        """Whether `value` is the published figure of that name, within what the case allows."""
        relative = self.tolerance.get("rtol_of", {}).get(name, self.tolerance["rtol"])
        return np.allclose(value, self.outputs[name], rtol=relative, atol=self.tolerance["atol"])

    def check(self, **values: Any) -> None:
        """Each value is the published figure of that name."""
        wrong = {name: (v, self.outputs[name]) for name, v in values.items() if not self.close(name, v)}
        assert not wrong, f"ours, published: {wrong}"


@functools.cache
def published_case(name: str) -> PublishedCase:
    """The case of that id; the test is skipped where its arrays are not at hand."""
    cases = {case["id"]: case for case in json.loads((_FOLDER / "cases.json").read_text(encoding="utf-8"))}
    case = cases[name]
    inputs: dict[str, np.ndarray] = {}
    if case["file"] is not None:
        file = next((f / case["file"] for f in (_FOLDER, _SHARED) if (f / case["file"]).is_file()), None)
        if file is None:
            pytest.skip(f"{case['file']} is not beside this checkout (../shared/reference/evaluation)")
        with np.load(file) as arrays:
            inputs = dict(arrays)
    return PublishedCase(inputs, case["outputs"], case.get("tolerance", {"rtol": 0.0, "atol": 0.0}))
