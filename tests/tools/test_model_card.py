"""Tables written from numbers into marked places of a page, and nothing else of it touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tools.results.model_card import main, write_tables

from manyview.errors import UsageError

ROW = {
    "auc_5": 1.25,
    "auc_15": 20.0,
    "auc_30": 41.5,
    "rotation_median_deg": 3.0,
    "translation_median_deg": 9.0,
    "abs_rel": 0.1234,
    "confidence_excess": None,
}
SETTINGS = {"scenes": 4, "views": 8, "width": 112, "height": 80}
NUMBERS = {
    "levels": {
        "easy": {
            "settings": SETTINGS,
            "rows": dict.fromkeys(("dense", "frame", "identity", "mean pose"), ROW),
        }
    },
    "views": [{"level": "easy", "settings": SETTINGS, "rows": {"dense": ROW}}],
}


def test_marked_places_are_replaced_and_the_rest_stays(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- numbers:summary -->\nold\n<!-- /numbers -->\nafter\n")
    assert write_tables(page, NUMBERS) == ["summary"]
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| easy | 1.2 / 20.0 / 41.5 | 0.123 | 41.5 | 41.5 | 41.5 |" in text
    write_tables(page, NUMBERS)
    assert page.read_text() == text


def test_full_tables_have_every_row(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("<!-- numbers:tables --><!-- /numbers -->")
    write_tables(page, NUMBERS)
    text = page.read_text()
    assert text.count("| mean pose |") == 1 and "| easy | 4 | 8 |  | 1.2 |" in text


@pytest.mark.parametrize(
    "text", ["nothing", "<!-- numbers:summary -->", "<!-- numbers:x --><!-- /numbers -->"]
)
def test_pages_without_a_proper_place_are_refused(tmp_path: Path, text: str):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(UsageError, match=str(page.name)):
        write_tables(page, NUMBERS)
    assert page.read_text() == text


def test_the_command_reads_the_numbers_of_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page, weights = tmp_path / "page.md", tmp_path / "weights.safetensors"
    page.write_text("<!-- numbers:summary --><!-- /numbers -->")
    for numbers, status in (({}, 2), (NUMBERS, 0)):
        metadata = {"manyview": json.dumps({"numbers": numbers}), "format": "pt"}
        save_file({"x": torch.zeros(1)}, weights, metadata=metadata)
        assert main([str(weights), str(page)]) == status
    assert "weights.safetensors" in capsys.readouterr().err
    assert "| easy | 1.2 / 20.0 / 41.5 |" in page.read_text()
