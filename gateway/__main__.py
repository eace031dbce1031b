"""``python -m gateway``: options and environment to a running gateway."""

from __future__ import annotations

from diplex.polling import poll_without_event_engine

poll_without_event_engine()  # before the imports below bring in grpc

import asyncio
import re
from enum import StrEnum
from typing import Annotated, Final

import structlog
import typer

from diplex.serving import MEBIBYTE
from diplex.telemetry import configure_logging
from gateway.application import Gateway
from gateway.config import GatewayConfig

_DEFAULTS: Final = GatewayConfig()


class LogFormat(StrEnum):
    """How logs are written."""

    JSON = "json"
    CONSOLE = "console"


def main(
    *,
    listen: Annotated[
        str, typer.Option(envvar="DIPLEX_LISTEN", help="Where to serve: host:port or unix:/path.")
    ] = _DEFAULTS.listen,
    workers: Annotated[
        str,
        typer.Option(
            envvar="DIPLEX_WORKERS",
            help="Addresses of the workers, host:port or unix:/path, with commas or spaces between them. "
            "They may come up later, and go and come back.",
        ),
    ] = ",".join(_DEFAULTS.workers),
    default_model: Annotated[
        str,
        typer.Option(
            envvar="DIPLEX_DEFAULT_MODEL",
            help="Serves requests that name no model. Without it: the only model in use, if there is one.",
        ),
    ] = _DEFAULTS.default_model,
    max_message_mib: Annotated[
        int,
        typer.Option(
            envvar="DIPLEX_MAX_MESSAGE_MIB", min=1, max=512, help="Largest request, images included, in MiB."
        ),
    ] = _DEFAULTS.max_message_bytes // MEBIBYTE,
    drain_seconds: Annotated[
        float,
        typer.Option(
            envvar="DIPLEX_DRAIN_SECONDS", min=0, help="How long running calls may go on after SIGTERM."
        ),
    ] = _DEFAULTS.drain_seconds,
    reconnect_seconds: Annotated[
        float,
        typer.Option(
            envvar="DIPLEX_RECONNECT_SECONDS",
            min=0.1,
            help="Longest pause between two tries to reach a lost worker.",
        ),
    ] = _DEFAULTS.reconnect_most_seconds,
    log_format: Annotated[
        LogFormat,
        typer.Option(envvar="DIPLEX_LOG_FORMAT", help="Logs for machines (json) or people (console)."),
    ] = LogFormat.JSON,
    log_level: Annotated[
        str, typer.Option(envvar="DIPLEX_LOG_LEVEL", help="Lowest level that is logged.")
    ] = "INFO",
) -> None:
    """Serve Diplex's public gRPC API in front of one or more workers.

    The gateway learns from its workers which models there are. Its health (grpc.health.v1) is SERVING while
    one of them can answer. SIGTERM or Ctrl-C drains: running calls end, new ones are refused.

    Example: python -m gateway --workers 127.0.0.1:50061,unix:/run/diplex/worker.sock
    """
    configure_logging("gateway", log_format=log_format.value, level=log_level)
    config = GatewayConfig(
        listen=listen,
        workers=addresses(workers),
        default_model=default_model,
        max_message_bytes=max_message_mib * MEBIBYTE,
        drain_seconds=drain_seconds,
        reconnect_most_seconds=reconnect_seconds,
    )
    try:
        asyncio.run(_serve(config))
    except (OSError, ValueError) as error:
        structlog.get_logger().error("not started", error=str(error))
        raise typer.Exit(1) from error


def addresses(text: str) -> tuple[str, ...]:
    """The addresses in a list with commas or spaces between them, each once, in their order."""
    return tuple(dict.fromkeys(re.findall(r"[^\s,]+", text)))


async def _serve(config: GatewayConfig) -> None:
    async with Gateway(config) as gateway:
        await gateway.run_until_signal()


if __name__ == "__main__":
    typer.run(main)
