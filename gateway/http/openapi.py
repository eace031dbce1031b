"""The OpenAPI document of the HTTP edge, made from the classes that parse requests, and a page of it."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from diplex.version import installed_version
from gateway.http.chat_request import ChatRequest
from gateway.http.completion_request import CompletionRequest
from gateway.http.loading import ModelWanted
from gateway.http.responses_request import ResponsesRequest

_REF: Final = "#/components/schemas/{model}"
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
                "diplex": {"type": "object", "description": "The reason, and the details that gRPC has."},
            },
        }
    },
}
_HEADERS: Final = (
    (
        "x-request-timeout",
        "Seconds that the request has; over, it ends with 504.",
        {"type": "number", "minimum": 1, "maximum": 86400},
    ),
    ("x-request-id", "Names the request in logs and in the answer.", {"type": "string", "maxLength": 128}),
)
_IDEMPOTENCY: Final = (
    "idempotency-key",
    "A repeated request with the same key has the same answer.",
    {"type": "string", "maxLength": 128},
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    summary: str
    body: type[BaseModel] | None = None
    """Class that parses what is sent; ``None``: nothing is sent."""
    streams: bool = False
    """Whether the answer may be server-sent events."""
    media_type: str = "application/json"
    """Of the answer otherwise."""


OPERATIONS: Final = (
    Operation("post", "/v1/chat/completions", "Goes on with a chat.", ChatRequest, streams=True),
    Operation("post", "/v1/completions", "Goes on with a text.", CompletionRequest, streams=True),
    Operation(
        "post",
        "/chat-server/v1/chat/completions/torch",
        "Goes on with a chat, by the torch backend unless it names another.",
        ChatRequest,
        streams=True,
    ),
    Operation(
        "post", "/v1/responses", "Goes on with a chat, in other words.", ResponsesRequest, streams=True
    ),
    Operation(
        "get", "/v1/models", "Lists the models; to who accepts events, again after each change.", streams=True
    ),
    Operation("get", "/v1/models/{name}", "Tells of a model; its name may have slashes."),
    Operation("post", "/diplex/v1/plan", "Tells who would serve a chat, and why; runs nothing.", ChatRequest),
    Operation(
        "post",
        "/diplex/v1/models/load",
        "Loads a model: events with the progress, the last one with the model.",
        ModelWanted,
        media_type="text/event-stream",
    ),
    Operation("post", "/diplex/v1/models/unload", "Unloads a model, and gives its memory back.", ModelWanted),
    Operation("get", "/metrics", "Counts, for Prometheus.", media_type="text/plain"),
    Operation("get", "/healthz", "Whether the process answers."),
    Operation("get", "/readyz", "Whether a model can answer."),
)


def document() -> dict[str, Any]:
    """The document."""
    bodies = {operation.body: None for operation in OPERATIONS if operation.body}
    names, defined = models_json_schema([(body, "validation") for body in bodies], ref_template=_REF)
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        reference = names[(operation.body, "validation")] if operation.body else None
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, reference)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Diplex",
            "version": installed_version(),
            "description": "OpenAI's API on the models of this gateway.",
        },
        "paths": paths,
        "components": {
            "schemas": {**defined["$defs"], "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }


def _described(operation: Operation, reference: Any) -> dict[str, Any]:
    headers = (*_HEADERS, _IDEMPOTENCY) if operation.body else _HEADERS
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "header", "description": text, "schema": schema}
        for name, text, schema in headers
    ]
    if "{name}" in operation.path:
        parameters.append({"name": "name", "in": "path", "required": True, "schema": {"type": "string"}})
    answers: dict[str, Any] = {operation.media_type: {"schema": {"type": _kind(operation)}}}
    if operation.streams:
        answers["text/event-stream"] = {"schema": {"type": "string"}}
    error = {"schema": {"$ref": _REF.format(model="Error")}}
    described = {
        "operationId": f"{operation.method} {operation.path}",
        "summary": operation.summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "The answer.", "content": answers},
            "default": {"description": "What went wrong.", "content": {"application/json": error}},
        },
    }
    if reference:
        content = {"application/json": {"schema": reference}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _kind(operation: Operation) -> str:
    return "object" if operation.media_type == "application/json" else "string"


def page() -> str:
    """The document for people: every path, and the fields of what is sent."""
    listed = "".join(_section(operation) for operation in OPERATIONS)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Diplex over HTTP</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><style>'
        ":root{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif}"
        "body{max-width:60rem;margin:auto;padding:1rem}code{font-size:.95em}"
        "td,th{text-align:left;vertical-align:top;padding:.15rem 1rem .15rem 0}"
        "</style><h1>Diplex over HTTP</h1><p>OpenAI's API on the models of this gateway. For machines: "
        f'<a href="openapi.json">openapi.json</a>.</p>{listed}</html>'
    )


def _section(operation: Operation) -> str:
    title = f"{operation.method.upper()} {operation.path}"
    text = f"<h2><code>{html.escape(title)}</code></h2><p>{html.escape(operation.summary)}</p>"
    if operation.body is None:
        return text
    rows = "".join(
        f"<tr><td><code>{html.escape(name)}</code></td><td>{html.escape(told)}</td></tr>"
        for name, told in fields_of(operation.body)
    )
    return f"{text}<details><summary>Fields</summary><table>{rows}</table></details>"


def fields_of(body: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """The fields of a request, each with what it does."""
    for name, field in body.model_fields.items():
        yield name, field.description or ""
