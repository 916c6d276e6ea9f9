"""Known cameras and depth from the command line."""

from __future__ import annotations

import numpy as np

import manyview
from tests.models.tiny_pi3 import tiny_pi3x, write_pi3


def _poses(folder, names):
    folder.mkdir()
    rows = []
    for i, name in enumerate(names):
        pose = np.eye(4)
        pose[0, 3] = i
        rows.append(" ".join([name, *(f"{value:g}" for value in pose.flatten())]))
    (folder / "poses.txt").write_text("\n".join(rows))
    (folder / "intrinsics.txt").write_text("60 0 31.5\n0 60 23.5\n0 0 1\n")
    return folder


def test_known_cameras_change_the_result_and_its_settings(command, photos, tmp_path):
    weights = write_pi3(tmp_path / "pi3x.safetensors", tiny_pi3x())
    known = _poses(tmp_path / "known", ["0.png", "2.png", "3.png"])
    depth = tmp_path / "depth"
    depth.mkdir()
    np.save(depth / "1.npy", np.full((48, 64), 3.0))

    def run(*more):
        status, text, errors = command("reconstruct", photos, out, "--model", weights, "--to", "none", *more)
        return status, text, errors

    out = tmp_path / "plain"
    assert run()[0] == 0
    plain = manyview.load_reconstruction(out)
    assert "known" not in plain.settings
    out = tmp_path / "known_cameras"
    status, text, errors = run("--known-cameras", known, "--known-depth", depth)
    assert status == 0, errors
    assert "known of 4 views: poses of 3, intrinsics of 4, depth of 1" in text
    result = manyview.load_reconstruction(out)
    facts = result.settings["known"]
    assert (facts["poses"], facts["intrinsics"], facts["depth"]) == (3, 4, 1)
    assert not np.allclose(result.z_depth, plain.z_depth, rtol=1e-4)
    status, text, _ = run("--known-cameras", known, "--known-depth", depth)
    assert status == 0 and "already holds this reconstruction" in text
    status, _, errors = run("--known-cameras", known)
    assert status != 0 and "overwrite" in errors  # other settings, another result
    status, text, errors = command("plan", photos, "--model", weights, "--known-cameras", known)
    assert status == 0 and "poses of 3" in text, errors
    more = ("--accel", "anchors", "--chunk", 2, "--overwrite")
    status, _, errors = run("--known-cameras", known, *more)
    assert status == 2 and "--chunk" in errors


def test_networks_that_take_images_only_refuse_them(command, photos, weights, tmp_path):
    known = _poses(tmp_path / "known", ["0.png", "2.png"])
    status, _, errors = command(
        "reconstruct", photos, tmp_path / "out", "--model", weights, "--known-cameras", known
    )
    assert status != 0 and "takes images only" in errors and "--model pi3x" in errors
    assert not (tmp_path / "out").exists()
