"""``python -m gateway.configuration``, which ``diplex config`` runs: prints the gateway's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.config import GatewayConfig
from gateway.configuration import loading, reference
from gateway.configuration.problems import InvalidConfiguration


def main(
    *,
    config: Annotated[
        Path | None, typer.Option(envvar=loading.FILE_VARIABLE, help="A TOML file.", show_default=False)
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Sets a key; may be repeated.")
    ] = None,
    example: Annotated[
        bool,
        typer.Option("--example", "--reference", help="A file of every key, explained."),
    ] = False,
) -> None:
    """Print the gateway's configuration in effect as TOML, with the source of each value, secrets masked."""
    if example:
        typer.echo(reference.example(GatewayConfig), nl=False)
        return
    try:
        loaded = loading.load(GatewayConfig, file=config, assignments=tuple(assignments or ()))
    except InvalidConfiguration as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    typer.echo(reference.effective(loaded), nl=False)


if __name__ == "__main__":
    typer.run(main)
