"""Targets and published ratios beside made-up figures."""

from __future__ import annotations

import json

import pytest
from tools.bench.published import TARGETS
from tools.bench.targets import applies, main, targets_text, verdicts


def run(*cases: tuple, estimates: tuple = (), slope: float = 15e6, name: str = "vggt-1b-random") -> dict:
    """Figures with (plan, frames, seconds) each."""
    return {
        "model": {"name": name, "image_size": [518, 392]},
        "environment": {"device_name": "A Card"},
        "measurements": [
            {
                "plan": plan, "method": plan, "kernels": "plain", "linears": "plain",
                "twin": plan == "reference", "frames": frames, "seconds": seconds,
                "peak_bytes": 20e6 * frames,
            }
            for plan, frames, seconds in cases
        ],
        "estimates": [{"method": m, "frames": n, "seconds": s} for m, n, s in estimates],
        "memory_bytes_per_frame": {"spark3r": slope},
    }  # fmt: skip


def found(*runs: dict) -> dict[tuple[int, str, str | None], tuple[str, float, bool, bool]]:
    return {
        (v.target.frames, v.target.measure, v.target.plan): (
            v.method,
            round(v.value, 3),
            v.met,
            v.extrapolated,
        )
        for v in verdicts(runs)
    }


def test_the_fastest_plan_counts_and_baselines_do_not():
    one = run(
        ("dense", 100, 2.0),
        ("frame", 100, 0.5),
        ("reference", 100, 0.4),
        ("flash", 100, 1.1),
        ("httm", 100, 1.3),
    )
    assert found(one) == {(100, "seconds", None): ("flash", 1.1, True, False)}
    slow = run(("httm", 100, 1.3))
    assert found(slow) == {(100, "seconds", None): ("httm", 1.3, False, False)}


def test_ratios_to_dense_are_met_from_above_and_tell_an_extrapolated_one():
    one = run(("spark3r", 1000, 5.0), ("httm", 1000, 40.0), estimates=(("dense", 1000, 200.0),))
    assert found(one) == {
        (1000, "seconds", None): ("spark3r", 5.0, True, False),
        (1000, "times dense", None): ("spark3r", 40.0, True, True),
        (1000, "times dense", "httm"): ("httm", 5.0, False, True),
    }
    measured = run(("dense", 800, 90.0), ("avggt", 800, 10.0))
    assert found(measured) == {(800, "times dense", "avggt"): ("avggt", 9.0, True, False)}
    assert (1000, "times dense", None) not in found(run(("spark3r", 1000, 5.0)))


def test_runs_are_joined_and_only_those_of_the_right_model_and_size():
    dense, fast = run(("dense", 1000, 200.0)), run(("spark3r", 1000, 4.0))
    assert found(dense, fast)[(1000, "times dense", None)] == ("spark3r", 50.0, True, False)
    assert (
        not applies(run(name="manyview-small")) and found(run(("httm", 100, 1.0), name="small-random")) == {}
    )
    assert targets_text([run(("httm", 100, 1.0), name="small-random")]) == ""


def test_memory_has_a_target_of_its_own():
    text = targets_text([run(("spark3r", 3000, 19.0), slope=21e6)])
    lines = [line for line in text.splitlines() if "spark3r" in line]
    assert ["not met" in line for line in lines] == [False, False, True]
    assert "60" in lines[1] and "at most 130 gigabytes" in lines[1] and "at most 20 MB a frame" in lines[2]


def test_every_target_says_what_others_reached():
    assert all(target.published for target in TARGETS)
    assert len({(t.frames, t.measure, t.plan) for t in TARGETS}) == len(TARGETS)


@pytest.mark.parametrize("frames, status", [(100, 0), (8, 1)])
def test_the_command_reads_folders(tmp_path, capsys, frames, status):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "bench.json").write_text(json.dumps(run(("httm", frames, 1.0))))
    assert main([str(tmp_path)]) == status
    assert ("met" in capsys.readouterr().out) is (status == 0)
