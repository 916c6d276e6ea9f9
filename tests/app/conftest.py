"""A page on a server of its own."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image


@dataclasses.dataclass
class Served:
    """`tests.app.serve_page` at `url`, with its jobs in `folder`."""

    url: str
    folder: Path
    cache: Path
    process: subprocess.Popen[str]

    def do_next(self) -> str:
        """Have the job that waits longest be done; returns its id."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return str(self.told())

    def told(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("the page needs the extra 'app'")
    folder = tmp_path_factory.mktemp("page") / "jobs"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.app.serve_page", str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "GRADIO_ANALYTICS_ENABLED": "False"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    served = Served("", folder, folder, process)
    try:
        served.url, cache = served.told()
    except ValueError:
        process.kill()
        pytest.fail(process.communicate()[1])
    served.cache = Path(cache)
    yield served
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert not served.cache.exists()


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Two small images, image10 and image9."""
    paths = [tmp_path / "image10.png", tmp_path / "image9.png"]
    for path in paths:
        Image.new("RGB", (8, 6)).save(path)
    return paths
