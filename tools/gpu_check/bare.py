"""A machine without our dependencies and without a network: packages come as wheels. Imports none of them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WHEELS = ROOT / ".wheels"
# What a machine with PyTorch and the usual scientific packages may lack; beartype is for the tests.
PACKAGES = (
    *("msgspec", "jaxtyping", "wadler_lindig", "filelock"),
    *("tyro", "docstring_parser", "typeguard", "beartype"),
)
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def find_packages(wheels: Path = WHEELS) -> list[str]:
    """Make the checkout importable, and from wheels what is not installed; also for processes started later.

    Returns:
        The packages that are still missing.
    """
    places = [str(ROOT / "src"), str(ROOT)]
    lacking = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    found = [file for name in lacking for file in sorted(wheels.glob(f"{name}-*.whl"))]
    if found:
        site = tempfile.mkdtemp(prefix="manyview-wheels-")
        for file in found:
            with zipfile.ZipFile(file) as wheel:
                wheel.extractall(site)
        places.append(site)
    sys.path[:0] = places
    os.environ["PYTHONPATH"] = os.pathsep.join([*places, *filter(None, [os.environ.get("PYTHONPATH")])])
    importlib.invalidate_caches()
    return [name for name in lacking if importlib.util.find_spec(name) is None]


def fetch_wheels(folder: Path, python: str = "3.12") -> int:
    """Download the packages' wheels for a Linux machine with that Python; returns pip's status."""
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M))
    folder.mkdir(parents=True, exist_ok=True)
    platforms = [text for name in _PLATFORMS for text in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", python, "--implementation", "cp", *platforms, "--dest", str(folder)]
    return subprocess.run(
        [*command, *(f"{name}=={pinned[name]}" for name in PACKAGES)], check=False
    ).returncode
