"""Pages in a real headless Chromium; run by ``make test-browser``.

The gateways are processes of the usual environment, whose interpreter ``SERVING_PYTHON`` names.
``CHROMIUM`` names the browser. ``SCREENSHOTS`` names a folder for pictures of what the tests see; without it
there are none.
"""

from __future__ import annotations

import os
import shutil

import pytest
from playwright.sync_api import sync_playwright

from tests.served import serving

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}

# Layout shifts and long tasks, as the browser itself counts them.
OBSERVE = """
window.seen = {shifts: [], tasks: []};
new PerformanceObserver((list) => {
  for (const it of list.getEntries()) if (!it.hadRecentInput) {
    const moved = it.sources.map(({node, previousRect: was, currentRect: is}) =>
      [(node?.outerHTML ?? node?.parentElement?.outerHTML)?.slice(0, 80), was.x, was.y, is.x, is.y]);
    seen.shifts.push({value: it.value, moved});
  }
}).observe({type: "layout-shift", buffered: true});
new PerformanceObserver((list) => {
  for (const it of list.getEntries()) seen.tasks.push({ms: it.duration, at: it.startTime});
}).observe({type: "longtask", buffered: true});
"""


@pytest.fixture(scope="session")
def browser():
    program = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    assert program, "no Chromium: install one, or name it by CHROMIUM"
    with sync_playwright() as playwright:
        # Run by root, as in containers, Chromium has no sandbox.
        running = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        yield running
        running.close()


@pytest.fixture(scope="session")
def fake(tmp_path_factory):
    with serving("tests.browser.fake", tmp_path_factory.mktemp("keys"), event="serving", key="told") as told:
        yield told


@pytest.fixture
def open_page(browser):
    """Opens a page of its own profile; at the end, nothing must have gone wrong in any."""
    contexts, faults = [], []

    def opened(url, *, viewport=DESKTOP, allowed=(), **options):
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        context.set_default_timeout(10_000)
        context.add_init_script(OBSERVE)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda told: (
                faults.append(told.text)
                if told.type == "error" and not any(text in told.text for text in allowed)
                else None
            ),
        )
        page.on("request", lambda request: _check_origin(request.url, url, faults))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def snap():
    """Takes a picture, if any are wanted."""

    def taken(page, name):
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=f"{folder}/{name}.png")

    return taken


def _check_origin(asked, url, faults):
    if not asked.startswith((url, "data:", "blob:")):
        faults.append(f"the page asked for {asked}")
