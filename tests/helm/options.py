"""Containers' arguments and variables, read by the programs' own parsers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import typer
from typer.main import get_command

from gateway import __main__ as gateway_program
from gateway.config import GatewayConfig
from gateway.configuration import loading
from gateway.configuration.keys import keys_of
from workers.onnx_worker.__main__ import app as worker_program

WORKERS: Final = get_command(worker_program)
"""The command line of every worker: they have the same one, and the torch worker's own module needs torch."""
STANDARD = ("OTEL_", "HF_", "KUBERNETES_")
"""First words of variables that other libraries read."""


def gateway_config(arguments: list[str], variables: Mapping[str, str]) -> GatewayConfig:
    """The gateway's configuration, as ``python -m gateway`` makes it; raises what that would end with."""
    app = typer.Typer()
    app.command()(gateway_program.main)
    with get_command(app).make_context("gateway", list(arguments)) as context:
        assignments = tuple(context.params["assignments"])
        options = gateway_program._given(context)
    return loading.load(GatewayConfig, environment=variables, options=options, assignments=assignments).config


def worker_options(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """The command that a worker's arguments name, and its parameters; raises click's errors."""
    command, *rest = arguments
    with WORKERS.commands[command].make_context(command, rest) as context:
        return command, dict(context.params)


def known_variables(component: str) -> set[str]:
    """The variables that a program reads."""
    if component == "gateway":
        return {key.variable for key in keys_of(GatewayConfig).values()}
    return {
        parameter.envvar
        for command in WORKERS.commands.values()
        for parameter in command.params
        if isinstance(parameter.envvar, str)
    }
