"""Whether the C library was told, and that a platform without it is left alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from manyview.train import allocator


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_a_second_large_buffer_costs_no_page_faults():
    script = (
        "import resource, sys, torch\n"
        "from manyview.train.allocator import keep_freed_memory\n"
        "told = keep_freed_memory() if sys.argv[1] == 'yes' else True\n"
        "x = torch.ones(1 << 24); del x\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(4):\n    x = torch.ones(1 << 24); del x\n"
        "print(int(told), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )

    def faults(choice: str) -> tuple[int, int]:
        done = subprocess.run([sys.executable, "-c", script, choice], capture_output=True, check=True)
        told, count = done.stdout.split()
        return int(told), int(count)

    told, kept = faults("yes")
    if not told:
        pytest.skip("the C library is not glibc")
    assert kept < faults("no")[1] / 4


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert not allocator.keep_freed_memory()
