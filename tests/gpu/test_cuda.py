"""On a CUDA card: the same numbers as on the CPU, the memory that was promised, no quadratic fallback."""

from __future__ import annotations

import pytest
import torch

from manyview.attention.softmax.sdpa import attend
from manyview.models.part_configs import EncoderConfig
from manyview.models.run_options import RunOptions
from manyview.models.vggt.config import CameraHeadConfig, VGGTConfig
from manyview.models.vggt.model import VGGT
from manyview.reconstruction.plan.footprint import estimate_peak_bytes
from tests.models.tiny import tiny_vggt

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card"),
]

HEADS = ("camera", "depth", "points")
WIDE = VGGTConfig(
    depth=4,
    taps=(0, 1, 2, 3),
    encoder=EncoderConfig(depth=2),
    camera_head=CameraHeadConfig(depth=1),
    track_head=None,
)


@pytest.fixture(autouse=True)
def exact_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def test_card_and_cpu_agree():
    model, images = tiny_vggt(), torch.rand(1, 5, 3, 42, 56)
    options = RunOptions(torch.float32, heads=HEADS, frames_per_chunk=2, mlp_tokens_per_chunk=40)
    with torch.no_grad():
        here = model(images, options=options)
        there = model.cuda()(images.cuda(), options=options)
    for name in ("pose_encoding", "z_depth", "depth_conf", "world_points"):
        torch.testing.assert_close(getattr(there, name).cpu(), getattr(here, name), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_stays_near(dtype):
    model, images = tiny_vggt().cuda(), torch.rand(1, 5, 3, 42, 56, device="cuda")
    with torch.no_grad():
        full = model(images).z_depth
        low = model(images, options=RunOptions(dtype=dtype)).z_depth
    assert 0 < (low - full).norm() / full.norm() < 0.1


def test_fused_attention_takes_what_the_model_gives():
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        q = torch.randn(1, 16, 4096, 64, device="cuda", dtype=dtype)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        attend(q, q, q)
        # A materialised score matrix would be 16 x 4096 x 4096 numbers.
        assert torch.cuda.max_memory_allocated() - before < 0.2 * 16 * 4096**2 * q.element_size()


@pytest.mark.parametrize("frames", [8, 40])
def test_measured_peak_is_what_preflight_expects(frames):
    with torch.device("cuda"):
        model = VGGT(WIDE)
    images = torch.zeros(1, frames, 3, 392, 518, dtype=torch.uint8, device="cuda")
    options = RunOptions(
        torch.bfloat16, frames_per_chunk=4, mlp_tokens_per_chunk=8192, head_frames_per_chunk=2
    )
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() - images.numel()
    with torch.no_grad():
        model(images, options=options)
    peak = torch.cuda.max_memory_allocated() - before
    layout = model.config.layout(frames, 392, 518)
    expected = estimate_peak_bytes(WIDE, layout, options, 2)
    # Convolution libraries take workspaces that no formula knows.
    assert 0.6 * peak < expected < 1.6 * peak
