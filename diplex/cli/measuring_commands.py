"""Commands that measure a gateway and watch it: options and help texts. What they do is in their modules."""

# ruff: noqa: PLC0415  # each command imports its own module only, so that `diplex health` starts fast

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from diplex.cli.options import DEFAULT_HTTP_LISTEN, Address, Model, Timeout, WantedBackend

commands = typer.Typer()
_PANEL: Final = "Measure and watch a gateway"


@commands.command(rich_help_panel=_PANEL)
def bench(
    *,
    address: Address = None,
    http: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help=f"Measure HTTP instead, at this base URL, as http://{DEFAULT_HTTP_LISTEN}/v1.",
            show_default=False,
        ),
    ] = None,
    model: Model = None,
    backend: WantedBackend = None,
    clients: Annotated[int, typer.Option("--clients", "-c", min=1, max=1024, help="Requests at a time.")] = 8,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Requests a second, at random times however many run, instead of so many at a time.",
            show_default=False,
        ),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option("--duration", "-d", min=0.1, help="Seconds.", show_default="20, without --requests"),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option("--requests", "-n", min=1, help="End after so many requests.", show_default=False),
    ] = None,
    prompt_tokens: Annotated[
        list[int] | None,
        typer.Option(
            "--prompt-tokens",
            "-p",
            min=1,
            help="Length of prompts; several are taken in turn.",
            show_default="128",
        ),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", "-t", min=1, help="Tokens of each answer, exactly.")
    ] = 64,
    timeout: Timeout = None,
    seed: Annotated[int, typer.Option(help="Of prompts, and of the times of --rate.")] = 0,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw it into this file, .png or .svg; needs matplotlib.",
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The figures, as JSON.")] = False,
) -> None:
    """Put a load on a gateway, and say how fast it answers. Ctrl-C ends it, and shows what was measured.

    Each request has a prompt of its own, of exactly so many tokens, and an answer of exactly so many.

    Example: diplex bench --clients 32 --duration 30

    Example: diplex bench --rate 2 --prompt-tokens 64 --prompt-tokens 1024 --plot load.svg

    Example: diplex bench --http http://127.0.0.1:8000/v1 --requests 200 --json
    """
    from diplex.bench.doors import Target
    from diplex.bench.load import Shape
    from diplex.cli import bench as command
    from diplex.cli.terminal import reported

    shape = Shape(
        clients=clients,
        rate=rate,
        seconds=20.0 if duration is None and requests is None else duration,
        requests=requests,
        prompt_tokens=tuple(prompt_tokens or [128]),
        max_tokens=max_tokens,
        seed=seed,
    )
    with reported():
        task = command.Task(Target(model, backend, timeout), shape, address, http, as_json, plot)
        raise typer.Exit(command.run(task))


@commands.command(rich_help_panel=_PANEL)
def top(
    *,
    address: Address = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help=f"Show requests and tokens a second too, from here, as http://{DEFAULT_HTTP_LISTEN}/metrics.",
            show_default=False,
        ),
    ] = None,
    interval: Annotated[
        float, typer.Option("--interval", "-i", min=0.1, help="Seconds between two looks.")
    ] = 1.0,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="End after so many looks.", show_default="never"),
    ] = None,
    unloaded: Annotated[bool, typer.Option("--all", help="Show also what could be loaded.")] = False,
) -> None:
    """Watch a gateway's workers: models, slots, who waits, and how fast they are. q or Ctrl-C ends.

    In a pipe it prints a line a deployment and look, with tabs between.

    Example: diplex top --metrics http://127.0.0.1:8000/metrics

    Example: diplex top --count 1 | cut -f 2,5,7
    """
    from diplex.cli import top as command
    from diplex.cli.terminal import reported

    with reported():
        raise typer.Exit(command.run(command.Task(address, metrics, interval, count, unloaded)))
