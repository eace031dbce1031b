"""The commands of a worker as one application."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console

from diplex.errors import DiplexError
from workers.runtime.command.bundling import bundle, unbundle
from workers.runtime.command.kind import WorkerKind
from workers.runtime.command.preparing import pull_command, verify_command
from workers.runtime.command.serving import serve_command


def application(kind: WorkerKind) -> typer.Typer:
    """The command line of a kind of worker."""
    app = typer.Typer(
        help=f"{kind.help} Serves models to a Diplex gateway, and prepares them.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    commands: dict[str, Callable[..., Any]] = {
        "serve": serve_command(kind),
        "pull": pull_command(kind),
        "verify": verify_command(kind),
        "bundle": bundle,
        "unbundle": unbundle,
    }
    for name, command in commands.items():
        app.command(name)(command)
    return app


def main(app: typer.Typer) -> None:
    """Runs a command; an error of ours is one line and exit code 1."""
    try:
        app()
    except (DiplexError, OSError) as error:
        Console(stderr=True).print(f"[red]error[/]: {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
