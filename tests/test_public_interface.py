"""What `import manyview` offers: names, help, lazy loading, and the names of the last release."""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import pydoc
import re
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest

import manyview
from manyview._deprecation import new_names
from manyview.errors import OLDEST_TORCH, ManyViewError, require_torch
from manyview.reconstruction.run.options import ReconstructChanges, ReconstructOptions
from tests.analytic_scene import fit_transform, room_scene


def test_dir_and_help_show_the_public_names() -> None:
    assert dir(manyview) == sorted(manyview.__all__)
    page = pydoc.render_doc(manyview, renderer=pydoc.plaintext)
    assert "Quick start" in page
    for name in set(manyview.__all__) - {"__version__"}:
        assert re.search(rf"^    (class )?{name}\b", page, re.MULTILINE), name
    assert callable(manyview.export) and manyview.export.__doc__


def test_type_checkers_see_the_names_that_load() -> None:
    tree = ast.parse(Path(manyview.__file__).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in guarded.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: node.module for node in imports for alias in node.names}
    assert seen == {**manyview._MODULES, "export": "export", "refine": "refine"}
    assert set(manyview.__all__) == {*seen, "__version__"}


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="reconstrct"):
        manyview.reconstrct  # noqa: B018


def test_import_does_not_load_pytorch() -> None:
    code = "import sys, manyview; dir(manyview); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("version", ["1.13.1", "2.5.1+cu124", None])
def test_an_old_or_missing_pytorch_is_told(version: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str) -> str:
        if name == "torch" and version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return str(version)

    monkeypatch.setattr(importlib.metadata, "version", installed)
    with pytest.raises(ManyViewError, match=r"PyTorch.*2\.6"):
        require_torch()


@pytest.mark.parametrize("version", ["2.6.0", "2.13.0+cpu", "3.0.0a0+git123", "unknown"])
def test_a_newer_pytorch_is_taken(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    require_torch()


def test_the_oldest_pytorch_is_that_of_the_package() -> None:
    oldest = ".".join(map(str, OLDEST_TORCH))
    assert any(line.startswith(f"torch>={oldest}") for line in importlib.metadata.requires("manyview") or [])


def test_a_result_exports_without_another_import(tmp_path: Path) -> None:
    scene, _ = room_scene([fit_transform((48, 32), (42, 28))], ["a.png"])
    scene.save(tmp_path / "result")
    code = (
        "import manyview, sys; scene = manyview.load_reconstruction(sys.argv[1]); "
        "print(scene.export(sys.argv[2], 'npz')[0].name, manyview.export(scene, sys.argv[3], 'npz')[0].name)"
    )
    folders = [str(tmp_path / name) for name in ("result", "a", "b")]
    done = subprocess.run([sys.executable, "-c", code, *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split()
    assert (tmp_path / "a" / first).is_file() and (tmp_path / "b" / second).is_file()


def test_keyword_arguments_are_the_fields_of_the_options() -> None:
    fields = {field.name for field in dataclasses.fields(ReconstructOptions)}
    assert set(ReconstructChanges.__annotations__) == fields
    hints = typing.get_type_hints(ReconstructOptions)
    changes = typing.get_type_hints(ReconstructChanges)
    assert {name: hints[name] for name in fields} == changes


@pytest.mark.usefixtures("unchecked")  # old names are in no signature
def test_names_of_the_last_release_warn_and_work() -> None:
    with pytest.warns(DeprecationWarning, match="receipt_views"):
        options = ReconstructOptions(compare=True, receipt_views=3)  # type: ignore[call-arg]
    assert options.compare_views == 3
    with pytest.warns(DeprecationWarning, match="receipt"):
        assert dataclasses.replace(options, receipt=True).compare  # type: ignore[call-arg]
    scene, _ = room_scene([fit_transform((48, 32), (42, 28))], ["a.png"])
    for old, new in new_names(type(scene)).items():
        with pytest.warns(DeprecationWarning, match=old):
            assert getattr(scene, old) == getattr(scene, new)
    with pytest.warns(DeprecationWarning, match="receipt"):
        assert np.array_equal(dataclasses.replace(scene, receipt=None).images, scene.images)  # type: ignore[call-arg]
