"""Options whose name has changed work under the old one for one release, with one warning."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import Command


@pytest.mark.parametrize("spelling", [("--linears", "fp8"), ("--linears=fp8",)])
def test_the_old_name_of_the_linear_precision(
    command: Command, photos: Path, weights: Path, spelling: tuple[str, ...]
):
    common = ("plan", photos, "--model", weights, "--image-size", 28, "--max-frames", 1)
    status, stdout, stderr = command(*common, *spelling)
    new = command(*common, "--linear-precision", "fp8")
    assert status == 0 and stderr.count("--linears is now --linear-precision") == 1
    moving = r"[\d.]+ [KMG]iB|about [\d.e+-]+ s"  # memory and speed of the machine
    first, second = (re.sub(moving, "", text) for text in (stdout, new[1]))
    assert new[0] == 0 and first == second and "--linears" not in new[2]
