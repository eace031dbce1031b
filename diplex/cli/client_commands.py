"""Commands that talk to a gateway: options and help texts. What they do is in their modules."""

# ruff: noqa: PLC0415  # each command imports its own module only, so that `diplex health` starts fast

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from diplex.cli.options import (
    DEFAULT_MAX_TOKENS,
    DEFAULT_SYSTEM,
    Address,
    MaxTokens,
    Model,
    Receipt,
    Seed,
    ServedName,
    System,
    Temperature,
    Timeout,
    TopK,
    TopP,
    WantedBackend,
)

if TYPE_CHECKING:
    from diplex.client import GenerateOptions

commands = typer.Typer()
_PANEL: Final = "Talk to a gateway"


@commands.command(rich_help_panel=_PANEL)
def generate(
    *,
    prompt: Annotated[
        str | None, typer.Argument(help="Text of the user; - or nothing: standard input.", show_default=False)
    ] = None,
    address: Address = None,
    model: Model = None,
    system: System = DEFAULT_SYSTEM,
    image: Annotated[
        list[Path] | None,
        typer.Option(
            help="A picture that the prompt is about, without a system message by default; may be repeated.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        bool, typer.Option("--split", help="Let the model see pictures in tiles too: finer, and slower.")
    ] = False,
    longest_edge: Annotated[
        int | None,
        typer.Option(help="Pixels to which a picture's longer side is scaled first.", show_default=False),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Give the prompt to the model without its chat template.")
    ] = False,
    max_tokens: MaxTokens = DEFAULT_MAX_TOKENS,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="End at this text; may be repeated.", show_default=False)
    ] = None,
    json_schema: Annotated[
        Path | None,
        typer.Option(
            help="Hold the answer to the JSON Schema in this file.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    regex: Annotated[
        str | None,
        typer.Option(help="Hold the answer to what this matches as a whole.", show_default=False),
    ] = None,
    grammar: Annotated[
        Path | None,
        typer.Option(
            help="Hold the answer to the Lark grammar in this file.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    backend: WantedBackend = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Seconds after which the answer ends with what it has.", show_default="none"
        ),
    ] = None,
    timeout: Timeout = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document of text and receipt, at the end.")
    ] = False,
    receipt: Receipt = None,
) -> None:
    """Answer one prompt, streamed to standard output.

    Example: diplex generate "What is the capital of France?" --temperature 0

    Example: cat notes.txt | diplex generate --system "Summarise." --json | jq .receipt.usage

    Example: diplex generate "Is the sky blue?" --regex "(yes|no)"

    Example: diplex generate "What is in this image?" --image lunch.jpg --model seeing
    """
    from diplex.cli import generate as command
    from diplex.cli.terminal import reported

    options: GenerateOptions = {
        "model": model,
        "system": None if raw or (image and system == DEFAULT_SYSTEM) else system or None,
        "images": image,
        "split_images": split or None,
        "longest_edge": longest_edge,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "stop": stop,
        "backend": backend,
        "time_limit": time_limit,
        "json_schema": json_schema.read_text("utf-8") if json_schema else None,
        "regex": regex,
        "grammar": grammar.read_text("utf-8") if grammar else None,
    }
    with reported():
        command.run(command.Task(prompt, raw, options, address, timeout, as_json, receipt))


@commands.command(rich_help_panel=_PANEL)
def chat(
    *,
    address: Address = None,
    model: Model = None,
    system: System = DEFAULT_SYSTEM,
    max_tokens: MaxTokens = DEFAULT_MAX_TOKENS,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = None,
    timeout: Timeout = None,
    receipt: Receipt = None,
    markdown: Annotated[
        bool | None,
        typer.Option("--markdown/--no-markdown", help="Render answers.", show_default="at a terminal"),
    ] = None,
    history: Annotated[
        bool,
        typer.Option("--history/--no-history", help="Remember what was typed, in ~/.local/state/diplex."),
    ] = True,
) -> None:
    """Talk, turn by turn. Ctrl-C stops an answer, Ctrl-D leaves, /help lists commands.

    Example: diplex chat --system "You are terse."

    Example: diplex chat --model SmolVLM-256M-Instruct, and then /image lunch.jpg
    """
    from diplex.cli import chat as command
    from diplex.cli.terminal import reported

    options: GenerateOptions = {
        "model": model,
        "system": system or None,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
    }
    with reported():
        command.run(
            options, address=address, timeout=timeout, receipt=receipt, markdown=markdown, keep=history
        )


@commands.command(rich_help_panel=_PANEL)
def models(
    *,
    address: Address = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """List the models that the gateway's workers serve, or would load when asked.

    Memory is MiB as loaded/at most (~ as predicted); slots are busy/all and +waiting; KL is the measured
    distance from the float32 weights.

    Example: diplex models --json | jq -r '.models[].name'
    """
    from diplex.cli import models as command
    from diplex.cli.terminal import reported

    with reported():
        command.run(address=address, as_json=as_json)


@commands.command(rich_help_panel=_PANEL)
def plan(
    *,
    model: Model = None,
    backend: WantedBackend = None,
    address: Address = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say which worker, backend and precision would serve a model, and why the others would not.

    Example: diplex plan --model SmolLM2-135M-Instruct --backend torch
    """
    from diplex.cli import plan as command
    from diplex.cli.terminal import reported

    with reported():
        command.run(model=model, backend=backend, address=address, as_json=as_json)


@commands.command(rich_help_panel=_PANEL)
def load(*, name: ServedName, address: Address = None, timeout: Timeout = None) -> None:
    """Load a model on the worker that would serve it; idle models may go for it.

    Example: diplex load SmolLM2-135M-Instruct/fp32
    """
    from diplex.cli import models as command
    from diplex.cli.terminal import reported

    with reported():
        command.load(name, address=address, timeout=timeout)


@commands.command(rich_help_panel=_PANEL)
def unload(*, name: ServedName, address: Address = None, timeout: Timeout = None) -> None:
    """Unload a model wherever it is, and give its memory back.

    Example: diplex unload SmolLM2-135M-Instruct/fp32
    """
    from diplex.cli import models as command
    from diplex.cli.terminal import reported

    with reported():
        command.unload(name, address=address, timeout=timeout)


@commands.command(rich_help_panel=_PANEL)
def health(
    *,
    address: Address = None,
    wait: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait until it serves.", show_default="ask once")
    ] = None,
    service: Annotated[str, typer.Option(help="Full name of one service.", show_default="all")] = "",
) -> None:
    """Ask whether the gateway serves (grpc.health.v1): exit code 0 if so, else 1.

    Example: diplex health --wait 60 --service diplex.v1.GenerationService
    """
    from diplex.cli.health import serves

    try:
        raise typer.Exit(0 if serves(address=address, service=service, wait=wait) else 1)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
