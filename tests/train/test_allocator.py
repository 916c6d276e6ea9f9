"""Freed memory is kept with glibc, and other platforms are left alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from manyview.train import allocator

_SCRIPT = """
import resource, statistics, torch
from manyview.train.allocator import keep_freed_memory

def faults():
    # Of a buffer, in the median: now and then one finds the place of the last one a few bytes short.
    found = []
    for _ in range(21):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        x = torch.ones(1 << 24); del x
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return statistics.median(found)

print(faults(), int(keep_freed_memory()), faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_large_buffers_cost_no_page_faults_in_the_end():
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, check=True)
    before, kept, after = (int(word) for word in done.stdout.split())
    if not kept:
        pytest.skip("the C library is not glibc")
    assert before > 1 and after < before / 100  # huge pages fault seldom, but they do


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert not allocator.keep_freed_memory()
