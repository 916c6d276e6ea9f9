"""Depth Anything 3 from the command line."""

from __future__ import annotations

import torch

import manyview
from tests.models.da3.tiny_da3 import write_da3


def test_the_command_runs_in_chunks_and_streams(command, photos, tmp_path):
    weights = write_da3(tmp_path / "da3.safetensors")
    more = ("--model", weights, "--image-size", 56)
    results = []
    for chunk in ((), ("--chunk", 1)):
        out = tmp_path / f"out{len(chunk)}"
        plan = ("--accel", "anchors:frames=2", *chunk, "--to", "none")
        status, _, errors = command("reconstruct", photos, out, *more, *plan)
        assert status == 0, errors
        results.append(manyview.load_reconstruction(out))
    for name in ("cam_from_world", "z_depth"):
        whole, chunks = (torch.from_numpy(getattr(result, name).copy()) for result in results)
        torch.testing.assert_close(whole, chunks, rtol=1e-3, atol=1e-4)
    out = tmp_path / "middle"
    status, _, errors = command(
        "reconstruct", photos, out, *more, "--reference-view", "middle", "--camera-from-rays", "--to", "none"
    )
    assert status == 0, errors
    settings = manyview.load_reconstruction(out).settings
    assert (settings["reference_view"], settings["camera_from_rays"]) == ("middle", True)
    for engine, taken in (("auto", "anchors"), ("chunks", "chunks")):
        out = tmp_path / engine
        status, _, errors = command("stream", photos, out, *more, "--engine", engine, "--to", "none")
        assert status == 0, errors
        assert manyview.load_reconstruction(out).settings["engine"] == taken
