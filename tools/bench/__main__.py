"""`python -m tools.bench`: `manyview bench` with the reference implementation and the library's targets."""

from __future__ import annotations

import dataclasses
import sys

from torch import nn

from manyview.bench.figures import BenchReport
from manyview.bench.methods import Implementation
from manyview.cli.bench import Bench
from manyview.models.da3.model import DA3
from manyview.models.network import Network
from tools.bench.reference import ReferenceVGGT
from tools.bench.reference_da3 import ReferenceDA3
from tools.bench.targets import targets_text
from tools.command import run_command


def reference(model: Network) -> nn.Module:
    """The reference implementation on the weights of `model`; UsageError where there is none."""
    return ReferenceDA3(model) if isinstance(model, DA3) else ReferenceVGGT(model)


REFERENCE = Implementation("reference", reference)


@dataclasses.dataclass(frozen=True)
class BenchWithReference(Bench):
    """`manyview bench`, with a reference implementation and the library's targets."""

    twin: bool = False
    """Also time dense VGGT, or Depth Anything 3, as its paper reads in plain PyTorch, on the same weights."""

    def run(self) -> int:
        return self.measure([REFERENCE] if self.twin else [], _targets)


def _targets(report: BenchReport) -> str:
    return targets_text([report.to_json()])


if __name__ == "__main__":
    sys.exit(run_command(BenchWithReference, BenchWithReference.run, "tools.bench"))
