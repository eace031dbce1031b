"""Writes the generated parts of docs/ anew from the code that they describe: ``python -m tools.reference``.

A page marks such a part by ``<!-- generated: NAME -->`` and ``<!-- end -->``, each on a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import typer
from pydantic import BaseModel

from diplex import status
from gateway.config import GatewayConfig
from gateway.configuration import reference
from gateway.http import openapi
from gateway.http.chat_request import ChatRequest
from gateway.http.completion_request import CompletionRequest
from gateway.http.fields import GenerationFields
from gateway.http.responses_request import ResponsesRequest
from tools import protocol
from workers.onnx_worker.__main__ import app as worker

DOCS: Final = Path(__file__).parents[1] / "docs"

_PART: Final = re.compile(r"(?<=<!-- generated: )([\w-]+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def worker_options() -> str:
    """A Markdown table of what ``serve`` takes."""
    rows = ["| option | variable | default | meaning |", "|---|---|---|---|"]
    serve: Any = typer.main.get_command(worker)
    for option in serve.commands["serve"].params:
        if not option.envvar and option.name == "help":
            continue
        name = "/".join([*option.opts, *option.secondary_opts])
        variable = f"`{option.envvar}`" if option.envvar else ""
        meaning = " ".join(option.help.replace("|", r"\|").split())
        rows.append(f"| `{name}` | {variable} | {_default(option)} | {meaning} |")
    return "\n".join(rows) + "\n"


def error_rows() -> str:
    """A Markdown table of all errors that have a reason of their own."""
    rows = ["| reason | gRPC | HTTP | what to do | details |", "|---|---|---|---|---|"]
    for kind in status.CLASSES:
        row, details = status.status_of(kind("")), [f"`{name}`" for name in kind.carried()]
        rows.append(
            f"| `{kind.reason}` | `{row.code.name}` | {row.http} | {kind.advice} | {', '.join(details)} |"
        )
    return "\n".join(rows) + "\n"


def _default(option: Any) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    return "" if option.default in (None, "", ()) else f"`{option.default}`".replace("True", "on")


def fields_of(body: type[BaseModel], *others: type[BaseModel]) -> str:
    """A Markdown table of a request's fields, without those of other classes."""
    elsewhere = {name for other in others for name in other.model_fields}
    told = [(name, text) for name, text in openapi.fields_of(body) if name not in elsewhere]
    rows = [f"| `{name}` | {text.replace('|', chr(92) + '|')} |" for name, text in told]
    return "\n".join(["| field | |", "|---|---|", *rows]) + "\n"


PARTS: Final[dict[str, Callable[[], str]]] = {
    "gateway-keys": lambda: reference.table(GatewayConfig),
    "errors": error_rows,
    "http-fields": lambda: fields_of(GenerationFields),
    "http-chat-fields": lambda: fields_of(ChatRequest, GenerationFields),
    "http-completion-fields": lambda: fields_of(CompletionRequest, GenerationFields),
    "http-responses-fields": lambda: fields_of(ResponsesRequest, GenerationFields),
    "worker-options": worker_options,
    "protocol-generation": lambda: protocol.reference("diplex/v1/generation.proto"),
    "protocol-models": lambda: protocol.reference("diplex/v1/models.proto"),
}


def rendered(page: str) -> str:
    """A page with its generated parts as the code has them now.

    Raises:
        KeyError: It names a part that nothing makes.
    """
    return _PART.sub(lambda found: f"{found[1]}{found[2]}\n{PARTS[found[1]]()}\n", page)


def main() -> None:
    """Writes all pages of docs/ anew that have such parts."""
    for path in sorted(DOCS.rglob("*.md")):
        page = path.read_text("utf-8")
        if (new := rendered(page)) != page:
            path.write_text(new, "utf-8")
            print(path.relative_to(DOCS.parent))  # what it did


if __name__ == "__main__":
    main()
