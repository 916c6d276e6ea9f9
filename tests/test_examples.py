"""The script in examples/ runs as its docstring says; scripts for schedulers are run by tests of commands."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest

import manyview
from manyview.geometry.unproject_np import invert_rigid
from manyview.synthetic import demo_scene

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_every_example_is_run_here() -> None:
    assert [path.name for path in EXAMPLES.glob("*.py")] == ["spatialbench_adapter.py"]


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
