"""The playground's files, as they are served."""

import re

import pytest
from starlette.routing import Router
from starlette.testclient import TestClient

from gateway.http.playground import page

LINKED = re.compile(r'(?:src|href)="([^"#]+)"')
IMPORTED = re.compile(r'(?:^import|^\} from|from) "(\./[^"]+)"', re.MULTILINE)


@pytest.fixture
def client():
    return TestClient(Router(routes=page.routes()))


def files_of(text):
    return [path for path in LINKED.findall(text) if path != "docs"]


def test_the_page_is_asked_for_anew_and_its_files_are_kept(client):
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert client.get("/", headers={"if-none-match": answer.headers["etag"]}).status_code == 304
    paths = files_of(answer.text)
    assert len(set(paths)) >= 5
    for path in paths:
        assert "immutable" in client.get(f"/{path}").headers["cache-control"]


def test_all_that_it_imports_is_there(client):
    folder = files_of(client.get("/").text)[0].rpartition("/")[0]
    seen, waiting = set(), ["./main.js"]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        answer = client.get(f"/{folder}/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
        waiting += IMPORTED.findall(answer.text)
    assert "./markdown.js" in seen


@pytest.mark.parametrize("path", ["/playground/0123456789abcdef/main.js", "/playground/{digest}/secrets.js"])
def test_other_files_are_not_there_and_that_is_not_kept(client, path):
    digest = client.get("/").headers["etag"].strip('"')
    answer = client.get(path.format(digest=digest))
    assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")


def test_nothing_but_its_own_files_may_run(client):
    answer = client.get("/")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    # What the policy would refuse isn't there: styles, scripts and handlers in the page, and other sites.
    assert not re.search(r"<style|style=|<script>|\son\w+=|https?://", answer.text)
