"""What is served without a key: health, and what the edge says of itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from gateway.http import openapi


def routes(can_answer: Callable[[], bool]) -> list[Route]:
    """The routes.

    Args:
        can_answer: Whether a model can answer now.
    """

    async def alive(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> JSONResponse:
        return (
            JSONResponse({"status": "ready"}) if can_answer() else JSONResponse({"status": "not ready"}, 503)
        )

    return [
        Route("/healthz", alive),
        Route("/readyz", ready),
        Route("/openapi.json", _document),
        Route("/docs", _page),
    ]


async def _document(_: Request) -> JSONResponse:
    return _made()


async def _page(_: Request) -> HTMLResponse:
    return HTMLResponse(openapi.page())


@cache
def _made() -> JSONResponse:
    return JSONResponse(openapi.document())
