"""The command line: what all commands have in common."""

# ruff: noqa: PLC0415  # each command imports its own module only, so that `diplex health` starts fast

from __future__ import annotations

from typing import Annotated

import typer

from diplex.cli.client_commands import commands as client_commands
from diplex.cli.measuring_commands import commands as measuring_commands
from diplex.cli.options import (
    ApiKeyFile,
    Tls,
    TlsCaFile,
    TlsCertificateFile,
    TlsKeyFile,
    TlsServerName,
)
from diplex.cli.server_commands import commands as server_commands

app = typer.Typer(
    help="Serve small language models on the CPU, and talk to them, over gRPC.",
    epilog="Exit codes: 0 done, 1 failed, 2 the command or request is at fault, 3 not available now, "
    "4 timeout, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001  # typer calls it so
    if wanted:
        from importlib.metadata import version

        typer.echo(f"diplex {version('diplex')}")
        raise typer.Exit


@app.callback()
def _diplex(
    *,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    tls: Tls = None,
    tls_ca_file: TlsCaFile = None,
    tls_certificate_file: TlsCertificateFile = None,
    tls_key_file: TlsKeyFile = None,
    tls_server_name: TlsServerName = None,
    api_key_file: ApiKeyFile = None,
) -> None:
    from diplex.cli.credentials import Credentials

    Credentials(
        tls=tls,
        ca_file=tls_ca_file,
        certificate_file=tls_certificate_file,
        key_file=tls_key_file,
        server_name=tls_server_name,
        api_key_file=api_key_file,
    ).use()


app.add_typer(server_commands)
app.add_typer(client_commands)
app.add_typer(measuring_commands)
