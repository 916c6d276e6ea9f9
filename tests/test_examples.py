"""The scripts in examples/ run as their docstrings say."""

from __future__ import annotations

import importlib
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import manyview
from manyview.geometry.unproject_np import invert_rigid
from manyview.synthetic import demo_scene

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an example as a script and returns what it prints; it may warn of nothing."""

    def script(name: str, *arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", [str(part) for part in (EXAMPLES / name, *arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return script


def test_every_example_is_run_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{path.name}"' in text for path in EXAMPLES.glob("*.py"))


def test_arrays(run: Run) -> None:
    assert "(6, 3, 4)" in run("arrays.py")


def test_own_attention() -> None:
    """In a process of its own, as users run it: every import is the example's."""
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", EXAMPLES / "own_attention.py"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "RandomKeys" in done.stdout


@pytest.mark.photos(3, 96, 80)
def test_photos_to_colmap(run: Run, photos: Path, tmp_path: Path) -> None:
    said = run("photos_to_colmap.py", photos, tmp_path / "out", "--accel", "dense")
    assert "3 views, dense attention" in said
    assert (tmp_path / "out" / "colmap" / "sparse" / "0" / "images.bin").is_file()


@pytest.mark.photos(5, 96, 80)
def test_live_stream(run: Run, photos: Path) -> None:
    assert "frames 0 to 3" in (said := run("live_stream.py", photos)) and "frames 4 to 4" in said


_HARNESS = {
    "__init__.py": """
ADAPTERS = {}

def register_adapter(name):
    def keep(adapter):
        ADAPTERS[name] = adapter
        return adapter
    return keep

def get_adapter(name):
    return ADAPTERS[name]()
""",
    "base_adapter.py": """
from abc import ABC, abstractmethod

class ModelAdapter(ABC):
    @abstractmethod
    def name(self): ...

    @abstractmethod
    def load_model(self, checkpoint=None, device="cuda", weights_dir=None): ...

    @abstractmethod
    def predict(self, scene): ...

    def configure(self, **settings):
        for name, value in settings.items():
            if hasattr(self, name):
                setattr(self, name, value)
""",
}
"""The interface of SpatialBench's harness, from its description; nothing of it is imported."""


def test_the_adapter_for_spatialbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made, configured, loaded and run as its harness does; the frames of `demo_scene` are the scene."""
    package = tmp_path / "model_adapters"
    package.mkdir()
    for name, text in _HARNESS.items():
        (package / name).write_text(text)
    shutil.copy(EXAMPLES / "spatialbench_adapter.py", package / "manyview_adapter.py")
    settings = (EXAMPLES / "spatialbench_manyview.yaml").read_text(encoding="utf-8")
    assert "\nmodel: manyview\n" in settings and "\naccel: auto" in settings
    monkeypatch.syspath_prepend(str(tmp_path))
    harness = importlib.import_module("model_adapters")
    importlib.import_module("model_adapters.manyview_adapter")
    truth = demo_scene(views=2, height=48, width=64)
    images = truth.images[0].float()
    cameras = truth.cam_from_world[0].double().numpy()
    scene = {
        "scene_id": "demo_sparse",
        "images_raw": images / 255 if images.max() > 1 else images,
        "extrinsic": invert_rigid(cameras).astype(np.float32),
    }
    adapter = harness.get_adapter("manyview")
    adapter.configure(accel="dense", resolution_override=None, unknown=1)
    assert adapter.accel == "dense" and not hasattr(adapter, "unknown")
    adapter.load_model(checkpoint="manyview-small", device="cpu")
    found = adapter.predict(scene)
    assert found["pred_depth"].shape == found["pred_confidence"].shape == (2, 48, 64)
    whole = manyview.reconstruct(list(scene["images_raw"]), adapter.model, accel="dense", image_size=64)
    np.testing.assert_allclose(found["pred_depth"], whole.z_depth, rtol=1e-5)
    np.testing.assert_allclose(found["pred_intrinsic"][:, :2, 2], whole.intrinsics[:, :2, 2] - 0.5, rtol=1e-6)
    np.testing.assert_allclose(found["w2c_extrinsics"][0], np.eye(3, 4), atol=1e-6)
    np.testing.assert_allclose(invert_rigid(found["pred_pose"]), found["w2c_extrinsics"], atol=1e-5)
    based = adapter.normalize_gt_poses(scene)
    np.testing.assert_allclose(based[0], np.eye(3, 4), atol=1e-6)
    first = np.vstack([invert_rigid(cameras[:1])[0], [0, 0, 0, 1]])
    np.testing.assert_allclose(based[1], cameras[1] @ first, atol=1e-5)
    with pytest.raises(ValueError, match="resolution_override"):
        adapter.predict({**scene, "images_raw": scene["images_raw"][..., :60]})
