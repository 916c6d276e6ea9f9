"""The command: `python3 -m tools.gpu_check parity|profile|table|train OUT`, and `wheels DIR` before them.

Exits with 0 if all is well, with 1 if a case failed, with 2 where the device or a package is missing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tools.gpu_check.bare import WHEELS, fetch_wheels, find_packages

_SECONDS = {"parity": 240.0, "profile": 360.0, "table": 540.0, "train": 570.0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.gpu_check", description=__doc__)
    parser.add_argument("command", choices=(*_SECONDS, "wheels"))
    parser.add_argument("out", type=Path, help="folder of the results, or of the wheels")
    parser.add_argument("--seconds", type=float, help="for everything (default: by command, under 600)")
    parser.add_argument(
        "--wheels", type=Path, default=WHEELS, help="wheels of packages that are missing here"
    )
    parser.add_argument("--python", default="3.12", help="wheels: of that Python")
    parser.add_argument("--device", default="cuda", help="cpu, with --tiny, rehearses")
    parser.add_argument("--tiny", action="store_true", help="sizes of no interest")
    chosen = parser.parse_args(arguments)
    started = time.monotonic()
    if chosen.command == "wheels":
        return fetch_wheels(chosen.out, chosen.python)
    if chosen.device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    missing = find_packages(chosen.wheels)
    if missing:
        sys.stderr.write(
            f"{', '.join(missing)} cannot be imported: where there is a network run "
            f"`python3 -m tools.gpu_check wheels {WHEELS.name}`, and bring that folder along\n"
        )
        return 2
    return run(chosen, started + (chosen.seconds or _SECONDS[chosen.command]))


def run(chosen: argparse.Namespace, end: float) -> int:
    """One command until the time `end`; returns the exit status."""
    import importlib

    import torch

    from tools.gpu_check.machine import facts
    from tools.gpu_check.results import Results

    if chosen.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write("no CUDA device is visible to PyTorch; --device cpu --tiny rehearses\n")
        return 2
    results = Results(chosen.out, chosen.command, facts(chosen.device, chosen.tiny))
    part = importlib.import_module(f"tools.gpu_check.{chosen.command}")
    well = part.run(results, chosen.device, chosen.tiny, end)
    results.save()
    sys.stdout.write(f"\n{results.text}\n")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
