"""The paths of the HTTP edge."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import JSONResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.http import pages
from gateway.http.endpoint import Edge, Endpoint, Serve
from gateway.http.generation import Generations
from gateway.http.loading import Loading
from gateway.http.metrics import metrics
from gateway.http.models import ModelList
from gateway.http.playground import page

CHAT_OF_TORCH = "/chat-server/v1/chat/completions/torch"


def application(
    edge: Edge,
    generations: Generations,
    models: ModelList,
    loading: Loading,
    can_answer: Callable[[], bool],
    *,
    playground: bool,
) -> ASGIApp:
    """What the HTTP server serves.

    Args:
        edge: Lets requests in.
        generations: Answers chats and completions.
        models: Tells of models.
        loading: Loads them.
        can_answer: Whether a model can answer now.
        playground: Whether there is a page at ``/``.
    """

    def route(method: str, path: str, serve: Serve) -> Route:
        return Route(path, _OneMethod(method, Endpoint(method, path, edge, serve)))

    return Router(
        routes=[
            route("POST", "/v1/chat/completions", generations.chat),
            route("POST", CHAT_OF_TORCH, generations.torch_chat),
            route("POST", "/v1/completions", generations.completion),
            route("POST", "/v1/responses", generations.response),
            route("GET", "/v1/models", models.all),
            route("GET", "/v1/models/{name:path}", models.one),
            route("POST", "/diplex/v1/plan", generations.plan),
            route("POST", "/diplex/v1/models/load", loading.load),
            route("POST", "/diplex/v1/models/unload", loading.unload),
            route("GET", "/metrics", metrics),
            *(page.routes() if playground else ()),
            *pages.routes(can_answer),
        ],
        default=_unknown,
        redirect_slashes=False,
    )


class _OneMethod:
    """Serves one method of a path."""

    def __init__(self, method: str, app: ASGIApp) -> None:
        self._method = method
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == self._method:
            await self._app(scope, receive, send)
            return
        text = f"{scope['path']} takes {self._method}, not {scope['method']}"
        refusal = _refusal(405, "method_not_allowed", text)
        refusal.headers["allow"] = self._method
        await refusal(scope, receive, send)


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    text = f"nothing is served at {scope['method']} {scope['path']}; GET /openapi.json names all paths"
    await _refusal(404, "unknown_url", text)(scope, receive, send)


def _refusal(code: int, reason: str, text: str) -> JSONResponse:
    """Of what isn't a request to the core: it has no class of error."""
    error = {"message": text, "type": "invalid_request_error", "param": None, "code": reason}
    return JSONResponse({"error": error}, code, headers={"x-should-retry": "false"})
