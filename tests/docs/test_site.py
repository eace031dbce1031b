"""The site is built, each link in it leads somewhere, and nothing of it is loaded from elsewhere."""

import re
import shutil
import subprocess

import pytest

from tests.docs.blocks import ROOT

LOADED = re.compile(r'<(?:script|img|iframe|source)[^>]+src="(\w+:)?//|<link[^>]+href="(\w+:)?//')
"""Of other hosts; links that a reader follows are another matter."""


@pytest.fixture(scope="module")
def site():
    """The folder of the site; building it fails for a link, an anchor or a page that nothing leads to."""
    done = subprocess.run(
        [shutil.which("make"), "docs"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout
    return ROOT / "build" / "site"


def test_every_page_is_there(site):
    pages = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if not (site / page).is_file()} == set()


def test_every_page_is_in_the_navigation(site):
    home = (site / "index.html").read_text("utf-8")
    pages = [page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if f'href="{page}"' not in home] == []


def test_nothing_is_loaded_from_elsewhere(site):
    pages = [*site.rglob("*.html")]
    assert len(pages) > 40
    assert [page for page in pages if LOADED.search(page.read_text("utf-8"))] == []
    styles = [*site.rglob("*.css")]
    assert [style for style in styles if re.search(r"url\(['\"]?https?:", style.read_text("utf-8"))] == []


def test_markdown_was_understood(site):
    wrong = re.compile(r"<p>[^<]*(?:```|\n(?:- |\d+\. |\| ))")
    assert [page for page in site.rglob("*.html") if wrong.search(page.read_text("utf-8"))] == []
