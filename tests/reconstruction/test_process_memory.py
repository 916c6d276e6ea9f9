"""The expected peak against the memory of real processes, and what bounds that."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tools.results.memory import MIB, MemoryCase, can_measure, measure, write_photos

from manyview.errors import MemoryLimitError
from manyview.reconstruction.run.options import ReconstructOptions
from manyview.reconstruction.run.prepare import prepare
from tests.models.tiny import FAST_SIZE

# Of the code and kernels that a first pass brings into memory, whose share depends on the machine.
_CONSTANT = 48 * MIB


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, 64)
    return folder


@pytest.mark.skipif(not can_measure(), reason="the system does not tell the peak of resident memory")
@pytest.mark.parametrize(
    "case",
    [
        MemoryCase(64, "fp32", image_size=FAST_SIZE, accel="frame"),
        MemoryCase(2, "bf16", image_size=336),
        MemoryCase(40, "bf16", image_size=FAST_SIZE, accel="anchors:frames=4", chunk=8),
    ],
    ids=str,
)
def test_the_expected_peak_is_that_of_the_process(folder, case):
    found = measure(case, folder)
    assert found.measured_bytes <= found.expected_bytes <= 1.15 * found.measured_bytes + _CONSTANT


def test_a_limit_refuses_what_the_process_would_take(folder):
    from manyview.models.load import load

    limited = ReconstructOptions(
        device="cpu", precision="bf16", accel="dense", image_size=FAST_SIZE, memory_limit_gib=0.04
    )
    with pytest.raises(MemoryLimitError, match="64 views"):
        prepare(folder, load(), limited)


def test_the_command_bounds_caches_before_pytorch_is_imported():
    program = (
        "import sys\nfrom manyview.cli.main import run\nassert 'torch' not in sys.modules\n"
        "run(['doctor', '--help'])\nimport os\nprint(os.environ['ONEDNN_PRIMITIVE_CACHE_CAPACITY'])"
    )
    for given, wanted in (({}, "64"), ({"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "7"}, "7")):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ONEDNN_")}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment | given,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split()[-1] == wanted
