"""The documents say what the code does."""

import re
from pathlib import Path

import pytest

from diplex import status
from tools import reference

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(\w+)` \| `(\w+)` \| \d+ \|", re.MULTILINE)


def test_every_error_is_documented_with_advice_of_its_own():
    written = set(ROW.findall((ROOT / "docs/errors.md").read_text()))
    assert {(kind.reason, status.status_of(kind("")).code.name) for kind in status.CLASSES} == written
    assert [kind for kind in status.CLASSES if "advice" not in vars(kind)] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_generated_parts_are_what_the_code_says(page):
    written = page.read_text("utf-8")
    assert written == reference.rendered(written), "run `make reference`"


def test_every_environment_variable_is_documented():
    sources = [path for folder in ("diplex", "gateway", "workers") for path in (ROOT / folder).rglob("*.py")]
    read = {
        name for path in sources for name in re.findall(r'envvar="(DIPLEX_\w+)"', path.read_text("utf-8"))
    }
    assert read
    written = set(re.findall(r"`(DIPLEX_\w+)`", (ROOT / "docs/configuration.md").read_text("utf-8")))
    assert read - written == set()


def test_links_between_documents_lead_somewhere():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)\)", page.read_text())
        if "://" not in link
    ]
    assert links
    assert [(page, link) for page, link in links if not (page.parent / link).exists()] == []
