"""`manyview view` as a process: prints its address, serves, stops on Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from manyview.cli.view import View
from manyview.errors import InputError, UsageError
from manyview.view.options import ViewOptions
from tests.interrupting import LISTENS_TO_CTRL_C

from .scenes import wall_scene

pytest.importorskip("viser", reason="the viewer needs the extra 'view'")

_PROGRAM = (
    LISTENS_TO_CTRL_C
    + """
import pathlib, sys
from manyview.cli.view import View, ViewOptions
sys.exit(View(pathlib.Path(sys.argv[1]), ViewOptions(port=0)).run())
"""
)


def test_serves_until_interrupted(tmp_path: Path):
    folder = wall_scene().save(tmp_path / "out")
    environment = {
        key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")
    }
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        url = first.split()[0]
        assert url.startswith("http://127.0.0.1:") and "3 views" in first
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert out.splitlines()[-1] == "Viewer stopped."
    assert error == ""


def test_bad_folders_and_options_are_one_sentence(tmp_path: Path):
    with pytest.raises(InputError, match="nothing"):
        View(tmp_path / "nothing").run()
    with pytest.raises(UsageError, match="port"):
        View(tmp_path, ViewOptions(port=-1)).run()
