"""A small checkpoint file, a folder of photos, and the command line as a function."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file

from manyview.cli.main import run
from tests.models.tiny import TINY, tiny_vggt

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny random VGGT, in the layout that ManyView ships."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    state = {k: v.clone().contiguous() for k, v in tiny_vggt().state_dict().items()}
    save_file(state, path, {"manyview": json.dumps({"config": TINY.to_json(), "licence": "Apache-2.0"})})
    return path


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command line; returns (exit status, standard output, standard error)."""

    def call(*args: object) -> tuple[int, str, str]:
        status = run([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return status, out, err

    return call
