"""What was measured, and what follows from it."""

from __future__ import annotations

import dataclasses
from typing import Any

from .floors import slope
from .methods import method_name
from .options import BenchOptions

STAGES = (
    *("decode", "encoder", "frame layers", "global layers", "global linears", "global attention"),
    *("camera head", "depth head", "points head", "export"),
)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One case. Seconds are medians of `run_seconds`; memory is beside the weights.

    `stage_seconds`: the upload of the images is part of the encoder's. `peak_bytes`: on CUDA what the
    allocator handed out, elsewhere the bytes of all live tensors (without buffers inside a kernel);
    `reserved_bytes`: what the allocator took from the device, on CUDA alone. `attention_share`: part of the
    global layers that attention took in a pass of its own. `attention_flops` are those of `stage_flops` in
    global scores and weighted sums; `extra_flops`, what a plan spends on choosing or merging tokens, come on
    top. `floor_bytes`: traffic of a "fused" and of an "eager" program, and the least "memory".
    `other_rounds` are the seconds of rounds that did not count because another one varied less; `noisy` says
    that no round was quiet, `first_pass` that the pass with marks inside layers is the only one.
    `implementation` names another implementation that ran in the plan's place.
    """

    plan: str
    frames: int
    tokens: int
    seconds: float
    run_seconds: tuple[float, ...]
    stage_seconds: dict[str, float]
    stage_flops: dict[str, float]
    peak_bytes: int
    expected_peak_bytes: int
    pieces: dict[str, int | None]
    attention_flops: float = 0.0
    extra_flops: float = 0.0
    kernels: str = "plain"
    linear_precision: str = "plain"
    implementation: str | None = None
    reserved_bytes: int | None = None
    attention_share: float | None = None
    floor_bytes: dict[str, float] = dataclasses.field(default_factory=dict)
    decode_seconds: float | None = None
    export_seconds: float | None = None
    other_rounds: tuple[tuple[float, ...], ...] = ()
    noisy: bool = False
    first_pass: bool = False

    @property
    def method(self) -> str:
        return self.implementation or method_name(self.plan, self.kernels, self.linear_precision)

    @property
    def spread(self) -> float:
        """Longest minus shortest run, as a share of the median."""
        return (max(self.run_seconds) - min(self.run_seconds)) / self.seconds

    @property
    def flops(self) -> float:
        return sum(self.stage_flops.values())

    @property
    def total_seconds(self) -> float:
        """From files to files, as far as that was measured."""
        return (self.decode_seconds or 0.0) + self.seconds + (self.export_seconds or 0.0)

    def shown_stages(self) -> dict[str, float]:
        """Seconds by stage in order, with decoding and export, and global layers divided where known."""
        stages: dict[str, float] = {}
        if self.decode_seconds is not None:
            stages["decode"] = self.decode_seconds
        for name, seconds in self.stage_seconds.items():
            if name == "global layers" and self.attention_share is not None:
                stages["global linears"] = seconds * (1 - self.attention_share)
                stages["global attention"] = seconds * self.attention_share
            else:
                stages[name] = seconds
        if self.export_seconds is not None:
            stages["export"] = self.export_seconds
        return stages

    def shown_flops(self) -> dict[str, float]:
        """Operations of those stages, where there are any to count."""
        flops = {}
        for name, value in self.stage_flops.items():
            if name == "global layers" and self.attention_share is not None:
                flops["global linears"] = value - self.attention_flops
                flops["global attention"] = self.attention_flops + self.extra_flops
            else:
                flops[name] = value
        return flops


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A case without figures, and why: it was not run, or it `failed`."""

    plan: str
    frames: int
    reason: str
    failed: bool = False

    def line(self) -> str:
        """One sentence."""
        return f"{self.plan}, {self.frames} frames: {'failed' if self.failed else 'not run'}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A case that was too long to run: seconds extrapolated from the same method on `from_frames` frames."""

    method: str
    frames: int
    seconds: float
    from_frames: int


@dataclasses.dataclass
class BenchReport:
    """All that was measured so far. `gemm_flops_per_s` and `copy_bytes_per_s` are the device's rates for a
    large matrix product in the trunk's precision and for a copy, measured beside the runs: the floors of a
    time are its operations and its traffic at these rates.
    """

    options: BenchOptions
    model: dict[str, Any]
    environment: dict[str, Any]
    gemm_flops_per_s: float
    measurements: list[Measurement] = dataclasses.field(default_factory=list)
    refusals: list[Refusal] = dataclasses.field(default_factory=list)
    copy_bytes_per_s: float | None = None
    estimates: list[Estimate] = dataclasses.field(default_factory=list)

    def methods(self) -> list[str]:
        """Names in the order of measurement."""
        return list(dict.fromkeys(case.method for case in self.measurements))

    def of(self, method: str) -> list[Measurement]:
        """Cases of a method, from few frames to many."""
        cases = (case for case in self.measurements if case.method == method)
        return sorted(cases, key=lambda case: case.frames)

    def floor_seconds(self, case: Measurement) -> float:
        """Time of the case's operations at the matrix product's rate."""
        return case.flops / self.gemm_flops_per_s

    def traffic_seconds(self, case: Measurement, kind: str) -> float | None:
        """Time of the element-wise traffic of a "fused" or an "eager" program at the copy's rate."""
        if self.copy_bytes_per_s is None or kind not in case.floor_bytes:
            return None
        return case.floor_bytes[kind] / self.copy_bytes_per_s

    def dense_beside(self, case: Measurement) -> Measurement | None:
        """Dense attention on as many frames, the same kernels and linear precision, if it was measured."""
        name = method_name("dense", case.kernels, case.linear_precision)
        same = (one for one in self.measurements if one.frames == case.frames and one.method == name)
        return next(same, None)

    def dense_seconds(self, case: Measurement) -> tuple[float, bool] | None:
        """Seconds of dense attention beside a case (see `dense_beside`), and whether extrapolated."""
        dense = self.dense_beside(case)
        if dense is not None:
            return dense.seconds, False
        name = method_name("dense", case.kernels, case.linear_precision)
        found = (one for one in self.estimates if (one.method, one.frames) == (name, case.frames))
        return next(((one.seconds, True) for one in found), None)

    def memory_slope(self, method: str) -> float | None:
        """Peak bytes per frame, fitted over all numbers of frames."""
        cases = self.of(method)
        return slope([case.frames for case in cases], [case.peak_bytes for case in cases])

    def to_json(self) -> dict[str, Any]:
        """JSON types, with what follows from the figures spelled out."""
        cases = []
        for case in self.measurements:
            dense = self.dense_seconds(case)
            derived = {
                "method": case.method,
                "spread": case.spread,
                "total_seconds": case.total_seconds,
                "stages_shown": case.shown_stages(),
                "flops": case.flops,
                "seconds_over_dense": None if dense is None else case.seconds / dense[0],
                "dense_is_extrapolated": None if dense is None else dense[1],
                "flops_per_s": case.flops / case.seconds,
                "floor_seconds": self.floor_seconds(case),
                "fused_traffic_seconds": self.traffic_seconds(case, "fused"),
                "eager_traffic_seconds": self.traffic_seconds(case, "eager"),
                "stage_flops_per_s": {
                    stage: flops / case.stage_seconds[stage] for stage, flops in case.stage_flops.items()
                },
            }
            stored = _stored(case)
            stored["twin"] = stored.pop("implementation") is not None
            cases.append(stored | derived)
        return {
            "settings": {
                **_stored(self.options),
                "twin": any(case.implementation is not None for case in self.measurements),
            },
            "model": self.model,
            "environment": self.environment,
            "gemm_flops_per_s": self.gemm_flops_per_s,
            "copy_bytes_per_s": self.copy_bytes_per_s,
            "measurements": cases,
            "memory_bytes_per_frame": {name: self.memory_slope(name) for name in self.methods()},
            "estimates": [dataclasses.asdict(estimate) for estimate in self.estimates],
            "refusals": [dataclasses.asdict(refusal) for refusal in self.refusals],
        }


# Keys of earlier files.
_KEYS = {"linear_precision": "linears", "images": "pictures"}


def _stored(part: Measurement | BenchOptions) -> dict[str, Any]:
    return {_KEYS.get(name, name): value for name, value in dataclasses.asdict(part).items()}
