"""The table of models, and the page that is made from it."""

from __future__ import annotations

from pathlib import Path

from manyview.models.families import MODELS


def test_every_model_is_reported_with_its_licence(command):
    status, text, _ = command("weights")
    assert status == 0
    for row in MODELS:
        assert f"\n{row.name}\n" in f"\n{text}" and row.licence in text
    status, text, _ = command("weights", "--commercial-only")
    assert status == 0 and "manyview-small" in text and "facebook/VGGT-1B\n" not in text


def test_the_page_is_what_the_command_says(command):
    status, text, _ = command("weights", "--markdown")
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    assert status == 0 and text in page
