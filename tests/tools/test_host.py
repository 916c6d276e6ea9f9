"""The tool that times the host around a pass."""

from __future__ import annotations

from tools.results.host import HostTime, host_seconds


def test_every_step_has_its_seconds():
    found = host_seconds(HostTime(3, (56, 42)))
    assert found["views"] == 3 and found["peak_mib"] > 0
    assert all(found[step] >= 0 for step in ("read", "hash", "result", "quality"))
