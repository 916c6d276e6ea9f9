"""Everything that only a CUDA device can answer, in under nine minutes: `python -m tools.gpu_check OUT`.

Kernels against float64, GPU tests, golden cases, and time and memory of VGGT-1B's size up to 3,000 frames.
Each part writes OUT/NAME.txt, a benchmark also OUT/bench-*/bench.{json,txt,png}, while it runs, so that a
stopped run keeps what it has measured. Exits with 1 if a check failed or was left out, 2 without a device.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from tools.bench.targets import targets_of

_ROOT = Path(__file__).resolve().parents[1]
_PRESETS = ("spark3r", "flash", "httm", "avggt")
_MORE_PRESETS = ("fastvggt", "gotohunt", "blocksparse")
_NO_TEST_CHOSEN = 5  # pytest's exit status; so it is without a device


class Checks:
    """Runs parts one after the other within a time budget; `failed` says whether any did not succeed."""

    def __init__(self, out: Path, device: str, seconds: float) -> None:
        self.failed = False
        self._out, self._device, self._end = out, device, time.monotonic() + seconds
        paths = [str(_ROOT / "src"), str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}

    def run(self, name: str, limit: float, *arguments: str) -> None:
        """`python arguments` for at most `limit` seconds of those left; output also goes to OUT/NAME.txt."""
        start = time.monotonic()
        limit = min(limit, self._end - start)
        with open(self._out / f"{name}.txt", "w", encoding="utf-8") as file:

            def tell(line: str) -> None:
                for stream in (sys.stdout, file):
                    stream.write(line)
                    stream.flush()

            if limit < 15:
                self.failed = True
                return tell(f"== {name}: left out, no time\n")
            tell(f"== {name} (at most {limit:.0f} s)\n")
            command = ["timeout", "-k", "5", str(int(limit)), sys.executable, *arguments]
            with subprocess.Popen(
                command, cwd=_ROOT, env=self._environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            ) as process:  # fmt: skip
                for line in process.stdout or ():
                    tell(line)
            status = process.returncode
            tell(f"== {name}: {time.monotonic() - start:.0f} s, status {status}\n")
        self.failed |= status not in ((0, _NO_TEST_CHOSEN) if name == "pytest" else (0,))

    def bench(self, name: str, limit: float, *options: str) -> None:
        """A benchmark that stops itself while there is time to write, and extrapolates what it leaves out."""
        limit = max(20.0, min(limit, self._end - time.monotonic() - 10))
        folder = str((self._out / f"bench-{name}").resolve())
        self.run(
            f"bench-{name}", limit + 10, "-m", "tools.bench", "--device", self._device, "--overwrite",
            "--out", folder, "--time-limit", f"{limit - 15:.0f}", *options,
        )  # fmt: skip


def check(out: Path, device: str, seconds: float, golden: Path | None, tiny: bool) -> bool:
    """Run all parts; returns whether all of them succeeded. `tiny` tries them on sizes of no interest."""
    out.mkdir(parents=True, exist_ok=True)
    checks = Checks(out, device, seconds)
    if device == "cuda":
        with open(out / "nvidia-smi.txt", "w", encoding="utf-8") as file:
            subprocess.run(["nvidia-smi"], stdout=file, stderr=subprocess.STDOUT, check=False)
    fused = "triton" if device == "cuda" else "plain"
    model, size = ("small-random", ("40", "32")) if tiny else ("vggt-1b-random", ("518", "392"))
    many = ("1", "2", "3") if tiny else ("100", "300", "800", "1000", "3000")
    few = ("1", "2") if tiny else ("100", "300", "1000")
    views = ("2", "4") if tiny else ("64", "256", "1000")
    one_pass, single = ("5", "2") if tiny else ("30", "5")
    common = (
        "--model", model, "--size", *size, "--warmup", "1", "--runs", "2", "--rounds", "2",
        "--long-pass", "1.5", "--pass-limit", one_pass, "--single-pass", single,
    )  # fmt: skip

    parity = str((out / "parity.json").resolve())
    checks.run("parity", 70, "-m", "tools.kernels.parity", "--device", device, "--out", parity)
    checks.bench(
        "vggt-1b-fused", 200, *common, "--frames", *many, "--plans", "dense", *_PRESETS,
        "--kernels", fused, "--head-precision", "bf16", "--channels-last",
    )  # fmt: skip
    checks.run("pytest", 100, "-m", "pytest", "-m", "gpu", "-q", "tests")
    if golden is not None:
        checks.run("conformance", 60, "-m", "tools.conformance", str(golden.resolve()), "--device", device)
    checks.bench(
        "scene", 60, "--model", "manyview-small", "--images", "scene", "--frames", *views,
        "--plans", "dense", *_PRESETS, *_MORE_PRESETS, "--kernels", fused,
        "--runs", "3", "--rounds", "2", "--long-pass", "2", "--pass-limit", "10",
    )  # fmt: skip
    plans = ("--plans", "dense", "spark3r", "avggt", "--twin")
    checks.bench("vggt-1b-plain", 120, *common, "--frames", *few, *plans)
    checks.run("kernels", 60, "-m", "pytest", "-q", "tests/kernels")
    text = targets_of([out])
    sys.stdout.write(text + "\n")
    (out / "targets.txt").write_text(text + "\n", encoding="utf-8")
    return not checks.failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu_check", description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=Path("gpu-check"), help="folder of the results")
    parser.add_argument(
        "--seconds", type=float, default=525, help="for everything; what has no time is left out"
    )
    parser.add_argument("--golden", type=Path, help="folder of golden cases, to be run too")
    parser.add_argument("--archive", type=Path, help="also pack the folder into this .tar.gz")
    parser.add_argument("--device", default="cuda", help="cpu, with --tiny, tries the program itself")
    parser.add_argument("--tiny", action="store_true", help="sizes of no interest")
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write("no CUDA device is visible to PyTorch; --device cpu --tiny tries the program\n")
        return 2
    passed = check(chosen.out, chosen.device, chosen.seconds, chosen.golden, chosen.tiny)
    if chosen.archive is not None:
        with tarfile.open(chosen.archive, "w:gz") as archive:
            archive.add(chosen.out, arcname=chosen.out.name)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
