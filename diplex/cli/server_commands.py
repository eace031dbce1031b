"""Commands that run servers, or prepare what they need: options and help texts."""

# ruff: noqa: PLC0415  # each command imports its own module only, so that `diplex health` starts fast

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from diplex.cli.options import (
    DEFAULT_HTTP_LISTEN,
    DEFAULT_LISTEN,
    DEFAULT_MODEL,
    DEFAULT_SYSTEM,
    LogFormat,
    ModelName,
    TorchPython,
)

commands = typer.Typer()
_PANEL: Final = "Serve models, or prepare them"


@commands.command(rich_help_panel=_PANEL)
def up(
    *,
    model: Annotated[
        list[str] | None, typer.Option(help="A model to serve; may be repeated.", show_default=DEFAULT_MODEL)
    ] = None,
    listen: Annotated[
        str, typer.Option(envvar="DIPLEX_LISTEN", help="Where the gateway listens.")
    ] = DEFAULT_LISTEN,
    http_listen: Annotated[
        str | None,
        typer.Option(
            envvar="DIPLEX_HTTP_LISTEN",
            help="Where it serves HTTP for OpenAI's clients; empty: nowhere.",
            show_default=f"{DEFAULT_HTTP_LISTEN}, or a free port",
        ),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(
            envvar="DIPLEX_SLOTS", min=1, help="Sequences decoded together.", show_default="the worker's"
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(envvar="DIPLEX_THREADS", min=0, help="Threads that compute.", show_default="one a core"),
    ] = None,
    torch: Annotated[
        bool, typer.Option("--torch", help="Run a torch worker too, for what has no ONNX entry.")
    ] = False,
    torch_model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model that the torch worker loads at the start; may be repeated.", show_default="none"
        ),
    ] = None,
    torch_python: TorchPython = None,
    private: Annotated[
        bool,
        typer.Option(
            "--private", help="Listen on a socket that only you can reach, and nowhere else; says which."
        ),
    ] = False,
    sample: Annotated[
        str, typer.Option(metavar="PROMPT", help="Answered once, when ready.")
    ] = "What is the capital of France?",
    no_sample: Annotated[bool, typer.Option("--no-sample", help="Answer nothing.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show all logs, not only warnings.")
    ] = False,
    log_format: Annotated[
        LogFormat, typer.Option(help="For people, or JSON lines (and no sample).")
    ] = LogFormat.CONSOLE,
) -> None:
    """Run gateway and ONNX worker, and a torch worker if wanted, on this machine until Ctrl-C.

    Prepares the model first, if that isn't done yet; restarts what dies; a second Ctrl-C kills.

    Example: diplex up --model SmolLM2-135M-Instruct --slots 8
    """
    from diplex.cli import up as command
    from diplex.cli.terminal import reported

    json_logs = log_format is LogFormat.JSON
    plan = command.Plan(
        models=tuple(model or [DEFAULT_MODEL]),
        listen=listen,
        http_listen=http_listen,
        slots=slots,
        threads=threads,
        sample=None if no_sample or json_logs else sample,
        system=DEFAULT_SYSTEM,
        verbose=verbose,
        json_logs=json_logs,
        private=private,
        torch=command.TorchPlan(torch_python or sys.executable, tuple(torch_model or ()))
        if torch or torch_model
        else None,
    )
    with reported():
        raise typer.Exit(command.run(plan))


keys = typer.Typer(no_args_is_help=True, help="API keys of a gateway.")
commands.add_typer(keys, name="keys", rich_help_panel=_PANEL)


@keys.command("new")
def new_key(
    *,
    name: Annotated[str, typer.Argument(help="Who is to use it; names the caller in logs and quotas.")],
    role: Annotated[str | None, typer.Option(help="A role of the keys file.", show_default="default")] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="Days after which it expires.", show_default="never")
    ] = None,
) -> None:
    """Make an API key: prints it on standard error, once, and its entry for the keys file on standard output.

    Example: diplex keys new team-a --days 90 >> keys.toml
    """
    from diplex.cli import keys as command
    from diplex.cli.terminal import reported

    with reported():
        command.new(name, role=role, days=days)


@commands.command(rich_help_panel=_PANEL)
def config(
    *,
    file: Annotated[
        Path | None,
        typer.Option("--config", envvar="DIPLEX_CONFIG", help="A TOML file.", show_default="none"),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Sets a key; may be repeated.", show_default=False),
    ] = None,
    example: Annotated[
        bool,
        typer.Option("--example", "--reference", help="A file with every key at its default, explained."),
    ] = False,
) -> None:
    """Print the gateway's configuration as it would be used, with the source of each value.

    What is wrong with it is said by key, and ends in exit code 2. Secrets are masked.

    Example: diplex config --example > gateway.toml

    Example: diplex config --config gateway.toml
    """
    from diplex.cli import config as command
    from diplex.cli.terminal import reported

    with reported():
        raise typer.Exit(command.run(file, assignments or [], example=example))


@commands.command(rich_help_panel=_PANEL)
def pull(
    *,
    name: ModelName,
    accept_licence: Annotated[
        list[str] | None,
        typer.Option(
            "--accept-licence", metavar="NAME", help="Agree to a model's terms without being asked, as gemma."
        ),
    ] = None,
    torch: Annotated[
        bool, typer.Option("--torch", help="For the torch worker, which has what has no ONNX entry.")
    ] = False,
    torch_python: TorchPython = None,
    allow_remote_code: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-remote-code", metavar="NAME", help="Run the code that this model's publisher wrote."
        ),
    ] = None,
) -> None:
    """Download a model and convert it, as far as that isn't done yet.

    Where a model has terms that must be agreed to, they are shown and asked for before the first download. In
    a container, name them: --accept-licence gemma, or DIPLEX_ACCEPT_LICENCE=gemma.

    Example: diplex pull SmolLM2-135M-Instruct
    """
    options = [f"--accept-licence={each}" for each in accept_licence or ()]
    options += [f"--allow-remote-code={each}" for each in allow_remote_code or ()]
    _run_worker("pull", name, *options, torch_python=(torch_python or sys.executable) if torch else None)


@commands.command(rich_help_panel=_PANEL)
def verify(
    *, name: ModelName, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """Check a model's files and measure again how close they are to the float32 weights.

    Example: diplex verify SmolLM2-135M-Instruct
    """
    _run_worker("verify", name, *(["--json"] if as_json else []))


def _run_worker(*arguments: str, torch_python: str | None = None) -> None:
    from diplex.cli import worker_module
    from diplex.cli.terminal import reported

    with reported():
        raise typer.Exit(worker_module.run(*arguments, torch_python=torch_python))
