"""The playground's files: one page, and what it loads, all from this package."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

_PAGE: Final = "index.html"
_MEDIA_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    # Only what this server sends runs, and the page talks to nobody else. What models say is no markup.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_FOREVER: Final = "public, max-age=31536000, immutable"


def routes() -> list[Route]:
    """The page at ``/``, and its files under a path that changes with them, so that browsers keep them."""
    return [Route("/", _page), Route("/playground/{digest}/{name}", _file)]


async def _page(request: Request) -> Response:
    headers = {**_HEADERS, "cache-control": "no-cache", "etag": f'"{_digest()}"'}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    text = _contents()[_PAGE].decode().replace("{digest}", _digest())
    return Response(text, headers=headers, media_type=_MEDIA_TYPES[".html"])


async def _file(request: Request) -> Response:
    digest, name = request.path_params["digest"], request.path_params["name"]
    content = _contents().get(name)
    if digest != _digest() or name == _PAGE or content is None:
        return PlainTextResponse(
            "Not found: load the page anew.\n", 404, headers={"cache-control": "no-store"}
        )
    headers = {**_HEADERS, "cache-control": _FOREVER}
    return Response(content, headers=headers, media_type=_MEDIA_TYPES[PurePath(name).suffix])


@cache
def _contents() -> Mapping[str, bytes]:
    """Name of each file -> what it holds."""
    folder = files("gateway.http.playground") / "static"
    return {it.name: it.read_bytes() for it in folder.iterdir() if PurePath(it.name).suffix in _MEDIA_TYPES}


@cache
def _digest() -> str:
    """Of all files together."""
    digest = hashlib.sha256()
    for name, content in sorted(_contents().items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]
