"""Rates of a device at the trunk's shapes, and where the time of two plans goes."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from manyview.attention.plan import Plan
from manyview.bench.clock import StageTimer, timed
from manyview.bench.images import bench_images
from manyview.bench.subject import subject
from manyview.models.fp8 import CODES, has_fp8
from manyview.models.run_options import RunOptions
from manyview.reconstruction.plan.device_model import Card, card_model
from tools.gpu_check.isolated import Case, Isolated, Tell
from tools.gpu_check.measure import line, row
from tools.gpu_check.results import Results

_HALF = torch.bfloat16
_PLANS = ("flash", "spark3r")
_TOP = 30


@dataclasses.dataclass(frozen=True)
class Shapes:
    """VGGT-1B's at 518x392, or sizes of no interest; frames of a short and of a long input."""

    model: str = "vggt-1b-random"
    size: tuple[int, int] = (518, 392)
    few: int = 100
    many: int = 1000
    patches: int = 1036
    heads: int = 16
    head_dim: int = 64
    kept: int = 16  # of how many keys or queries an approximation leaves one

    @property
    def frame(self) -> int:
        return self.patches + 5

    @property
    def dim(self) -> int:
        return self.heads * self.head_dim


TINY = Shapes("small-random", (80, 64), 4, 8, 11, 2, 16, 4)


def run(results: Results, device: str, tiny: bool, end: float) -> bool:
    """Each kind of work in a process of its own; returns whether all ran."""
    shapes = TINY if tiny else Shapes()
    makers = (transfers, products, norms, attention)
    cases = [Case(maker.__name__, rows, (maker.__name__, device, shapes), 90) for maker in makers]
    plans = [Case(f"plan {plan}", profiled, (plan, device, shapes), 90) for plan in _PLANS]
    Isolated(results, end, table).run([*plans, *cases])
    results.facts["device_model"] = calibrated(results.cases)
    return all(case["status"] == "ok" for case in results.cases.values())


def rows(tell: Tell, kind: str, device: str, shapes: Shapes) -> None:
    """Measure all pieces of work of a kind, telling each."""
    makers = {maker.__name__: maker for maker in (transfers, products, norms, attention)}
    found: list[dict[str, Any]] = []
    card = Card.of(torch.device(device))
    with torch.inference_mode():
        for one in makers[kind](torch.device(device), shapes):
            found.append(one)
            tell({"rows": found, **({"card": dataclasses.asdict(card)} if card else {})})


def transfers(device: torch.device, shapes: Shapes) -> Iterator[dict[str, Any]]:
    """Copies on the device, to it and from it; the cost of one small kernel and of waiting for it."""
    count = shapes.few * shapes.frame * shapes.dim * 8
    source = torch.randn(count // 2, device=device)
    target = torch.empty_like(source)
    yield row(device, "copy", lambda: target.copy_(source), moved=2.0 * source.nbytes)
    yield row(device, "read", lambda: source.sum(), moved=1.0 * source.nbytes)
    yield row(device, "write", lambda: target.zero_(), moved=1.0 * source.nbytes)
    pieces = source[: len(source) // 8]
    for pinned in (False, True) if device.type == "cuda" else (False,):
        host = torch.empty(pieces.shape, pin_memory=pinned).fill_(1.0)
        kind, there = "pinned" if pinned else "pageable", pieces.nbytes
        yield row(device, f"upload, {kind}", partial(pieces.copy_, host, non_blocking=True), moved=there)
        yield row(device, f"download, {kind}", partial(host.copy_, pieces, non_blocking=True), moved=there)
    small = torch.zeros(8, device=device)

    def launch() -> None:
        for _ in range(1000):
            small.add_(1)

    yield row(device, "1,000 small kernels", launch)
    yield row(device, "one small kernel and its value", lambda: small.add_(1)[0].item())


def products(device: torch.device, shapes: Shapes) -> Iterator[dict[str, Any]]:
    """Matrix products of the trunk's linear layers, in bf16 and fp8."""
    dim = shapes.dim
    sides = {
        "qkv": (dim, 3 * dim),
        "output": (dim, dim),
        "MLP, up": (dim, 4 * dim),
        "MLP, down": (4 * dim, dim),
    }
    for tokens in (shapes.few * shapes.frame, 16 * shapes.frame):
        for name, (inner, outer) in sides.items():
            x = torch.randn(tokens, inner, device=device, dtype=_HALF)
            weight = torch.randn(outer, inner, device=device, dtype=_HALF) * inner**-0.5
            bias = torch.randn(outer, device=device, dtype=_HALF)
            work: dict[str, Any] = {"flops": 2.0 * tokens * inner * outer, "shape": [tokens, inner, outer]}
            yield row(device, f"bf16 {name}, {tokens:,} tokens", lambda: F.linear(x, weight, bias), **work)  # noqa: B023
            if name == "MLP, up":
                gelu = torch._addmm_activation  # the tanh form, in the product's epilogue
                yield row(
                    device, f"bf16 {name} with GELU, {tokens:,} tokens",
                    lambda: gelu(bias, x, weight.t(), use_gelu=True), **work,  # noqa: B023
                )  # fmt: skip
            if has_fp8(device):
                codes, weights = x.to(CODES), weight.to(CODES).t()
                ones = torch.ones(tokens, 1, device=device), torch.ones(1, outer, device=device)
                yield row(
                    device, f"fp8 {name}, {tokens:,} tokens",
                    lambda: torch._scaled_mm(codes, weights, *ones, out_dtype=_HALF), **work,  # noqa: B023
                )  # fmt: skip


def norms(device: torch.device, shapes: Shapes) -> Iterator[dict[str, Any]]:
    """Norms of token rows and of heads, and what else touches every element, plain and fused."""
    from manyview.kernels.row_norm import add_scaled_norm, layer_norm

    tokens, dim = shapes.few * shapes.frame, shapes.dim
    x = torch.randn(1, tokens, dim, device=device, dtype=_HALF)
    y, heads = torch.randn_like(x), x.view(tokens * shapes.heads, shapes.head_dim)
    unit = 1.0 * x.nbytes
    weight, bias, gamma = torch.randn(3, dim, device=device)
    low = weight.to(_HALF), bias.to(_HALF)
    small = weight[: shapes.head_dim].to(_HALF), bias[: shapes.head_dim].to(_HALF)
    size = f"{tokens:,} tokens"
    yield row(device, f"layer norm of {dim}, {size}", lambda: F.layer_norm(x, (dim,), *low), moved=2 * unit)
    yield row(
        device, f"layer norm of {shapes.head_dim}, {size}",
        lambda: F.layer_norm(heads, (shapes.head_dim,), *small), moved=2 * unit,
    )  # fmt: skip
    yield row(
        device,
        f"fused layer norm of {dim}, {size}",
        lambda: layer_norm(x, weight, bias, 1e-5),
        moved=2 * unit,
    )
    yield row(
        device, f"fused sum and layer norm, {size}",
        lambda: add_scaled_norm(x, y, gamma, weight, bias, 1e-5), moved=4 * unit,
    )  # fmt: skip
    yield row(device, f"sum, {size}", lambda: torch.add(x, y), moved=3 * unit)
    yield row(device, f"GELU, {size}", lambda: F.gelu(x), moved=2 * unit)


def attention(device: torch.device, shapes: Shapes) -> Iterator[dict[str, Any]]:
    """Each backend of fused attention alone: frames, and few or all queries of a short and a long input."""
    names = {"flash": SDPBackend.FLASH_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION}
    names["efficient"] = SDPBackend.EFFICIENT_ATTENTION
    if device.type != "cuda":
        names = {"CPU": SDPBackend.FLASH_ATTENTION}
    few, many, kept = shapes.few * shapes.frame, shapes.many * shapes.frame, shapes.kept
    sizes = {
        f"{shapes.few} frames, each its own": (shapes.few, shapes.frame, shapes.frame),
        f"{shapes.few} frames, a {kept}th of the keys": (1, few, few // kept),
        f"{shapes.few} frames, dense": (1, few, few),
        f"{shapes.many} frames, a {kept}th of the keys": (1, many, many // kept),
        f"{shapes.many} frames, {2 * kept} times fewer queries and keys": (1, many // kept, many // 2),
    }
    for what, (batch, queries, keys) in sizes.items():
        q = torch.randn(batch, shapes.heads, queries, shapes.head_dim, device=device, dtype=_HALF)
        k, v = torch.randn(2, batch, shapes.heads, keys, shapes.head_dim, device=device, dtype=_HALF)
        flops = 4.0 * batch * queries * keys * shapes.dim
        for name, backend in names.items():

            def attend(backend: SDPBackend = backend, q: Any = q, k: Any = k, v: Any = v) -> None:
                with sdpa_kernel(backend):
                    F.scaled_dot_product_attention(q, k, v)

            yield row(
                device, f"{name}: {what}", attend, flops, backend=name,
                shape=[batch, shapes.heads, queries, keys, shapes.head_dim],
            )  # fmt: skip


def profiled(tell: Tell, spec: str, device: str, shapes: Shapes) -> None:
    """Seconds of a plan by stage, then the operations and kernels that take most of its time."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    where = torch.device(device)
    card = where.type == "cuda"
    options = RunOptions(
        _HALF, frames_per_chunk=16, mlp_tokens_per_chunk=131072, heads=("camera", "depth"),
        head_dtype=_HALF if card else None, channels_last=True if card else None,
        kernels="norms" if card else "plain",
    )  # fmt: skip
    model = subject(shapes.model, where, options.heads)
    plan = Plan.parse(spec, model.config.depth)
    images = bench_images("noise", shapes.few, shapes.size[1], shapes.size[0], 0)

    def forward(timer: Any) -> None:
        model(images.to(where), plan, options, timer)

    with torch.inference_mode():
        for _ in range(2):
            forward(None)
        seconds, timer = timed(where, forward, StageTimer)
        figures: dict[str, Any] = {
            "plan": spec,
            "frames": shapes.few,
            "seconds": seconds,
            "stages": timer.seconds(),
        }
        tell(figures)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if card else [])]
        with profiler(activities=activities, record_shapes=True) as found:
            forward(None)
            if card:
                torch.cuda.synchronize()
    kind = "self_device_time_total" if card else "self_cpu_time_total"
    averages = sorted(found.key_averages(), key=lambda one: getattr(one, kind), reverse=True)[:_TOP]
    figures["top"] = [
        {"name": one.key, "calls": one.count, "seconds": getattr(one, kind) / 1e6} for one in averages
    ]
    tell(figures)
    by_shape = found.key_averages(group_by_input_shape=True).table(sort_by=kind, row_limit=_TOP)
    print(by_shape)  # to the log of the case


def calibrated(cases: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """A row for `reconstruction/plan/devices.json`: what was measured, and the known card's rates else.

    None where the copy, the products or attention have no figures, or not of a card.
    """
    card = next((case["card"] for case in cases.values() if "card" in case), None)
    found = [one for case in cases.values() for one in case.get("rows", ()) if "seconds" in one]
    named = {one["name"]: one for one in found}

    def rate(start: str, key: str = "flops_per_s") -> float | None:
        rates = [one[key] for one in found if key in one and one["name"].startswith(start)]
        return statistics.median(rates) if rates else None

    products, copied = rate("bf16 "), rate("copy", "bytes_per_s")
    attention = [r for name in ("flash: ", "cuDNN: ") if (r := rate(name)) is not None]
    if card is None or products is None or copied is None or not attention:
        return None
    model = card_model(Card(**{**card, "capability": tuple(card["capability"])}))
    heads, fp8 = rate("layer norm of 64,", "bytes_per_s"), rate("fp8 ")
    ways = (rate(f"{way}, pinned", "bytes_per_s") for way in ("upload", "download"))
    link = [one for one in ways if one is not None]
    launches = named.get("1,000 small kernels")
    half = {"fp16": products, "bf16": products}
    return dataclasses.replace(
        model,
        name=card["name"],
        source="python3 -m tools.gpu_check profile; fp32 and convolutions as estimated before",
        measured=True,
        bytes_per_s=copied,
        strided_share=model.strided_share if heads is None else min(1.0, heads / copied),
        products=model.products | half | ({} if fp8 is None else {"fp8": fp8}),
        attention=model.attention | dict.fromkeys(half, max(attention)),
        dispatch_s=model.dispatch_s if launches is None else launches["seconds"] / 1000,
        link_bytes_per_s=min(link) if link else model.link_bytes_per_s,
    ).to_json()


def table(results: Results) -> str:
    """All rows, and the top of each plan."""
    lines = []
    for name, case in results.cases.items():
        lines += ["", f"{name}: {case['status']}", *(line(one) for one in case.get("rows", ()))]
        if "stages" in case:
            stages = ", ".join(f"{stage} {1e3 * seconds:.4g}" for stage, seconds in case["stages"].items())
            lines.append(f"{case['frames']} frames: {1e3 * case['seconds']:.5g} ms; {stages}")
        lines += [
            f"{1e3 * one['seconds']:10.4g} ms {one['calls']:6} x {one['name'][:90]}"
            for one in case.get("top", ())
        ]
    return "\n".join(lines).strip()
