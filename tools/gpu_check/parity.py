"""Whether a device computes what it should: plans, kernels, and the tests that need it."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from manyview.attention.methods import METHODS
from manyview.attention.plan import Plan
from manyview.bench.images import bench_images
from manyview.bench.subject import SMALL, random_model
from manyview.bench.table import aligned
from manyview.errors import UsageError
from manyview.kernels import KERNELS
from manyview.models.run_options import RunOptions
from tools.gpu_check.isolated import Case, Isolated, Tell, end_with_parent
from tools.gpu_check.results import Results

_OUTPUTS = ("pose_encoding", "z_depth", "depth_conf", "world_points")
# Relative error by norm against float64 that rounding alone explains; or this many times that of a CPU.
_ALLOWED = {torch.float32: 2e-4, torch.bfloat16: 5e-2}
_TIMES_CPU = 4.0
_ROOT = Path(__file__).resolve().parents[2]


def parity_cases(device: str, tiny: bool) -> list[Case]:
    """Every plan with every choice of kernels."""
    plans = ("dense", "spark3r", "httm") if tiny else ("dense", "frame", *METHODS)
    return [
        Case(f"{plan} [{kernels}]", plan_error, (plan, kernels, device), 600 if device == "cpu" else 60)
        for plan in plans
        for kernels in KERNELS
    ]


def run(results: Results, device: str, tiny: bool, end: float) -> bool:
    """Plans four at a time, then kernels, then tests; returns whether everything agrees."""
    isolated = Isolated(results, end, table)
    isolated.run(parity_cases(device, tiny), together=1 if device == "cpu" else 4)
    isolated.run([Case("kernels", kernel_errors, (device,), 90 if device != "cpu" else 600)])
    files = [] if tiny else _files_with_gpu_tests()
    isolated.run([Case("tests, GPU", run_tests, (["-m", "gpu", *files, "tests/gpu"],), 120)])
    if not tiny:
        isolated.run([Case("tests, kernels", run_tests, (["tests/kernels"],), 120)])
    return all(one["status"] == "ok" or one["status"].startswith("not for") for one in results.cases.values())


def plan_error(tell: Tell, spec: str, kernels: str, device: str) -> None:
    """Errors of a plan's outputs on the device against float64 on the CPU, beside those of the CPU."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    model = random_model(dataclasses.replace(SMALL, num_heads=2), torch.device("cpu"))
    try:
        plan = Plan.parse(spec, model.config.depth)
    except UsageError as error:
        return tell({"status": f"not for this network: {error}"})
    images = bench_images("scene", 6, 64, 80, 0)

    def outputs(where: str, dtype: torch.dtype, kernels: str = "plain") -> dict[str, torch.Tensor]:
        own = torch.float64 if dtype == torch.float64 else torch.float32
        options = RunOptions(dtype=dtype, heads=("camera", "depth", "points"), kernels=kernels)
        with torch.inference_mode():
            found = model.to(where, own)(images.to(where), plan, options)
        return {name: getattr(found, name).double().cpu() for name in _OUTPUTS}

    exact = outputs("cpu", torch.float64)
    figures: dict[str, Any] = {}
    for dtype, least in _ALLOWED.items():
        errors, beside = (
            {name: _error(found[name], exact[name]) for name in _OUTPUTS}
            for found in (outputs(device, dtype, kernels), outputs("cpu", dtype))
        )
        allowed = {name: max(least, _TIMES_CPU * beside[name]) for name in _OUTPUTS}
        figures[str(dtype).removeprefix("torch.")] = {"error": errors, "cpu": beside, "allowed": allowed}
        off = [name for name in _OUTPUTS if not errors[name] <= allowed[name]]
        if off:
            figures["status"] = f"off: {', '.join(off)} in {str(dtype).removeprefix('torch.')}"
        tell(figures)


def _error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


def kernel_errors(tell: Tell, device: str) -> None:
    """Every kernel against plain operations in float64, and timed on a card (`tools.kernels.parity`)."""
    from tools.kernels.parity import Parity, run_parity

    rows: list[dict[str, Any]] = []

    def watch(one: Parity) -> None:
        rows.append({**dataclasses.asdict(one), "agrees": one.agrees, "line": one.line()})
        off = [row["kernel"] for row in rows if not row["agrees"]]
        tell({"rows": rows, **({"status": f"off: {', '.join(off)}"} if off else {})})

    run_parity(torch.device(device), watch=watch)


def run_tests(tell: Tell, arguments: list[str]) -> None:
    """Tests of the checkout in a new process, as types are checked from the first import on."""
    command = [sys.executable, "-m", "pytest", "-vv", "-p", "no:cacheprovider", "--tb=short", *arguments]
    found: dict[str, list[str]] = {"passed": [], "failed": [], "error": [], "skipped": []}
    with subprocess.Popen(
        command,
        cwd=_ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=end_with_parent,
    ) as process:
        for line in process.stdout or ():
            sys.stdout.write(line)
            outcome = re.match(r"(\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED)", line)
            if outcome is None:
                continue
            found[outcome[2].lower()].append(outcome[1])
            off = found["failed"] + found["error"]
            status = {"status": f"off: {len(off)} tests failed"} if off else {}
            tell({**{key: len(names) for key, names in found.items()}, "failures": off, **status})
    if process.returncode not in (0, 1, 5):  # 5: all were left out
        raise RuntimeError(f"pytest ended with status {process.returncode}")


def _files_with_gpu_tests() -> list[str]:
    files = sorted((_ROOT / "tests").rglob("test_*.py"))
    marked = [file for file in files if "mark.gpu" in file.read_text("utf-8")]
    return [str(file.relative_to(_ROOT)) for file in marked if file.parent.name != "gpu"]


def table(results: Results) -> str:
    """A row for each plan and kernels with its worst errors, and a row for each kernel."""
    rows = [["plan [kernels]", "float32", "CPU", "bfloat16", "CPU", ""]]
    lines = []
    for name, case in results.cases.items():
        if "rows" in case:
            lines += [row["line"] for row in case["rows"]]
        if "passed" in case:
            counts = ", ".join(f"{case[key]} {key}" for key in ("passed", "failed", "error", "skipped"))
            lines += [f"{name}: {counts}", *(f"  {test}" for test in case["failures"])]
        cells = []
        for dtype in ("float32", "bfloat16"):
            for kind in ("error", "cpu"):
                cells.append(f"{max(case[dtype][kind].values()):.1e}" if dtype in case else "-")
        rows.append([name, *cells, case["status"]])
    return "\n".join([*aligned(rows), "", *lines])
