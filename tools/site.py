"""MkDocs hooks: pages that stand outside docs/, links to what is no page, and the list of decisions.

A link that leads out of docs/ works in the repository and on the site: to one of ``PAGES``, or to a copy
of the file as text. What it names as a folder has no place on the site, and only its words are left.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]

PAGES: Final = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "workers/runtime/catalogue/seeing/README.md": "seeing.md",
}
"""Page in the repository -> page of the site."""

_SHOWN: Final = {".png", ".svg", ".jpg"}
"""Copied under their own names; all others as text, which browsers show."""

_LINK: Final = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCED: Final = re.compile(r"(^ *```.*?^ *```)", re.DOTALL | re.MULTILINE)


def on_config(config: Any) -> Any:
    """Lists the decisions in the navigation, behind their index."""
    for section in config["nav"]:
        for title, entries in section.items():
            if title == "Decisions":
                entries.extend({title: uri} for title, uri in decisions())
    return config


def decisions() -> Iterator[tuple[str, str]]:
    """Title and page of each decision, in their order."""
    for path in sorted((ROOT / "docs/decisions").glob("[0-9]*.md")):
        title = path.read_text("utf-8").partition("\n")[0].removeprefix("# ")
        yield title, f"decisions/{path.name}"


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that stand elsewhere."""
    from mkdocs.structure.files import File  # noqa: PLC0415 - tests that read PAGES have no MkDocs

    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Leads links to where the site has their targets."""
    here = page.file.src_uri
    source = next((source for source, uri in PAGES.items() if uri == here), f"docs/{here}")

    def led(link: re.Match[str]) -> str:
        mark, words, target = link.groups()
        if "://" in target or target.startswith("#"):
            return link[0]
        path, hash_, anchor = target.partition("#")
        found = Path(os.path.normpath(ROOT / Path(source).parent / path))
        if found.is_dir():
            return words
        if not found.is_file():
            return link[0]  # MkDocs says so
        uri = _place(found.relative_to(ROOT).as_posix(), config, files)
        return f"{mark}[{words}]({os.path.relpath(uri, Path(here).parent)}{hash_}{anchor})"

    if here == "decisions/index.md":
        return markdown + "".join(f"\n- [{title}]({Path(uri).name})" for title, uri in decisions())
    parts = _FENCED.split(markdown)
    return "".join(part if index % 2 else _LINK.sub(led, part) for index, part in enumerate(parts))


def _place(source: str, config: Any, files: Any) -> str:
    """Where the site has a file of the repository; copied if nobody has named it before."""
    from mkdocs.structure.files import File  # noqa: PLC0415

    if source in PAGES:
        return PAGES[source]
    if source.startswith("docs/"):
        return source.removeprefix("docs/")
    uri = f"source/{source}" + ("" if Path(source).suffix in _SHOWN else ".txt")
    if files.get_file_from_path(uri) is None:
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / source)))
    return uri
