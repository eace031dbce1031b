"""``python -m gateway``: file, environment and options to a running gateway."""

# ruff: noqa: ARG001  # what the command line itself says is read from typer's context, as a whole

from __future__ import annotations

from diplex.polling import poll_without_event_engine

poll_without_event_engine()  # before the imports below bring in grpc

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Final

import structlog
import typer

from diplex.cli.processes import ChildFailed
from diplex.exposure import TooOpen
from diplex.metrics import metrics_server
from diplex.telemetry import configure_logging
from diplex.tracing import configure_tracing
from gateway import processes as several
from gateway.application import Gateway
from gateway.config import GatewayConfig
from gateway.configuration import loading
from gateway.configuration.keys import keys_of
from gateway.configuration.problems import InvalidConfiguration
from gateway.configuration.sources import Setting
from gateway.security.roles import InvalidKeysFile

_KEYS: Final = keys_of(GatewayConfig)

_OPTIONS: Final = {  # parameter -> the key that it sets
    "listen": "listen",
    "http_listen": "http.listen",
    "workers": "workers",
    "processes": "processes",
    "default_model": "default_model",
    "max_message_mib": "max_message_mib",
    "drain_seconds": "drain_seconds",
    "reconnect_seconds": "reconnect_most_seconds",
    "log_format": "log.format",
    "log_level": "log.level",
}


def _option(path: str) -> typer.models.OptionInfo:
    """An option for a key, as the key's own field describes it."""
    key = _KEYS[path]
    default = ",".join(key.default) if isinstance(key.default, tuple) else str(key.default)
    option: typer.models.OptionInfo = typer.Option(
        envvar=key.variable, help=key.description, show_default=default or False
    )
    return option


def main(
    context: typer.Context,
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            envvar=loading.FILE_VARIABLE,
            help="A TOML file; `diplex config --example` prints one with every key.",
            show_default=False,
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Sets any key of the file; may be repeated."),
    ] = None,
    listen: Annotated[str | None, _option("listen")] = None,
    http_listen: Annotated[str | None, _option("http.listen")] = None,
    workers: Annotated[str | None, _option("workers")] = None,
    processes: Annotated[str | None, _option("processes")] = None,
    default_model: Annotated[str | None, _option("default_model")] = None,
    max_message_mib: Annotated[str | None, _option("max_message_mib")] = None,
    drain_seconds: Annotated[str | None, _option("drain_seconds")] = None,
    reconnect_seconds: Annotated[str | None, _option("reconnect_most_seconds")] = None,
    log_format: Annotated[str | None, _option("log.format")] = None,
    log_level: Annotated[str | None, _option("log.level")] = None,
) -> None:
    """Serve Diplex's public API, gRPC and if wanted HTTP, in front of one or more workers.

    The gateway learns from its workers which models there are. Its health (grpc.health.v1) is SERVING while
    one of them can answer. SIGTERM or Ctrl-C drains: running calls end, new ones are refused.

    Example: python -m gateway --workers 127.0.0.1:50061,unix:/run/diplex/worker.sock
    """
    try:
        loaded = loading.load(
            GatewayConfig, file=config, options=_given(context), assignments=tuple(assignments or ())
        )
    except InvalidConfiguration as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    settings = loaded.config
    configure_logging("gateway", log_format=settings.log.format, level=settings.log.level)
    if settings.processes > 1:
        _run(several.serve(settings, sys.argv[1:]))
        return
    send_spans = configure_tracing("diplex-gateway", settings.traces)
    try:
        _run(_serve(settings))
    finally:
        send_spans()


def _run(serving: Coroutine[None, None, None]) -> None:
    """Serves until a signal; what keeps it from starting is a line in the log and exit code 1."""
    try:
        asyncio.run(serving)
    except (OSError, TooOpen, InvalidKeysFile, ChildFailed) as error:
        structlog.get_logger().error("not started", error=str(error))
        raise typer.Exit(1) from error


def _given(context: typer.Context) -> dict[str, Setting]:
    """What the command line itself says; the environment is read with the file."""
    return {
        path: Setting(context.params[parameter], f"--{parameter.replace('_', '-')}")
        for parameter, path in _OPTIONS.items()
        if (source := context.get_parameter_source(parameter)) and source.name == "COMMANDLINE"
    }


async def _serve(config: GatewayConfig) -> None:
    with metrics_server(config.metrics.listen):
        async with Gateway(config) as gateway:
            await gateway.run_until_signal()


if __name__ == "__main__":
    typer.run(main)
