"""Hooks of `mkdocs.yml`: files outside docs/ that pages link to become pages, and equations become MathML."""

from __future__ import annotations

import html
import os.path
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

_LINK = re.compile(r"(?<=\]\()(?!\w+:|[#/<])([^)\s#]+)")
_EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.S)
_OUTSIDE = "repository/"


def on_files(files: Files, config: Any) -> Files:
    """Adds what pages link to outside of docs/, and what that links to."""
    root = Path(config.config_file_path).parent
    pages = list(files.documentation_pages())
    for page in pages:  # grows
        for link in _LINK.findall(page.content_string):
            path = _target(page.src_uri, link)
            place = _in_site(path)
            known = not place.startswith(_OUTSIDE) or files.get_file_from_path(place) is not None
            if not known and (root / path).is_file():
                pages.append(File.generated(config, place, content=_as_page(root / path, path)))
                files.append(pages[-1])
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links by the places of files in the site."""
    here = page.file.src_uri

    def moved(link: re.Match[str]) -> str:
        place = _in_site(_target(here, link[1]))
        if not any(path.startswith(_OUTSIDE) for path in (here, place)):
            return link[1]
        return os.path.relpath(place, os.path.dirname(here) or ".")

    return _LINK.sub(moved, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Equations as MathML, so that no script is needed to read them."""

    def equation(found: re.Match[str]) -> str:
        display = "block" if found[1] == "div" else "inline"
        return str(convert(html.unescape(found[2]).strip(), display=display))

    return _EQUATION.sub(equation, content)


def _target(place: str, link: str) -> str:
    """Path from the root of the repository of what the page at `place` of the site's sources links to."""
    outside = place.startswith(_OUTSIDE)
    page = place.removeprefix(_OUTSIDE) if outside else f"docs/{place}"
    return os.path.normpath(os.path.join(os.path.dirname(page), link))


def _in_site(path: str) -> str:
    """Place in the site's sources of a path from the root of the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"{_OUTSIDE}{path}" if path.endswith(".md") else f"{_OUTSIDE}{path}.md"


def _as_page(file: Path, path: str) -> str:
    text = file.read_text(encoding="utf-8")
    hidden = "---\nsearch: {exclude: true}\n---\n"
    return text if file.suffix == ".md" else f"{hidden}# {path}\n\n````{file.suffix[1:]}\n{text}\n````\n"
