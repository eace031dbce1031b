"""The grammar of the command line: options, help texts, exit codes. What commands do is in their modules."""

# ruff: noqa: PLC0415  # each command imports its own module only, so that `diplex health` starts fast
# typer makes flags of booleans

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diplex.cli.options import (
    DEFAULT_HTTP_LISTEN,
    DEFAULT_LISTEN,
    DEFAULT_MAX_TOKENS,
    DEFAULT_MODEL,
    DEFAULT_SYSTEM,
    Address,
    ApiKeyFile,
    LogFormat,
    MaxTokens,
    Model,
    ModelName,
    Receipt,
    Seed,
    ServedName,
    System,
    Temperature,
    Timeout,
    Tls,
    TlsCaFile,
    TlsCertificateFile,
    TlsKeyFile,
    TlsServerName,
    TopK,
    TopP,
    TorchPython,
    WantedBackend,
)

if TYPE_CHECKING:
    from diplex.client import GenerateOptions

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


@app.command()
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
        torch=command.TorchPlan(torch_python or sys.executable, tuple(torch_model or ()))
        if torch or torch_model
        else None,
    )
    with reported():
        raise typer.Exit(command.run(plan))


@app.command()
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


@app.command()
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
) -> None:
    """Talk, turn by turn. Ctrl-C stops an answer, Ctrl-D leaves, /help lists commands.

    Example: diplex chat --system "You are terse."
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
        command.run(options, address=address, timeout=timeout, receipt=receipt)


@app.command()
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


@app.command()
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


@app.command()
def load(*, name: ServedName, address: Address = None, timeout: Timeout = None) -> None:
    """Load a model on the worker that would serve it; idle models may go for it.

    Example: diplex load SmolLM2-135M-Instruct/fp32
    """
    from diplex.cli import models as command
    from diplex.cli.terminal import reported

    with reported():
        command.load(name, address=address, timeout=timeout)


@app.command()
def unload(*, name: ServedName, address: Address = None, timeout: Timeout = None) -> None:
    """Unload a model wherever it is, and give its memory back.

    Example: diplex unload SmolLM2-135M-Instruct/fp32
    """
    from diplex.cli import models as command
    from diplex.cli.terminal import reported

    with reported():
        command.unload(name, address=address, timeout=timeout)


@app.command()
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


keys = typer.Typer(no_args_is_help=True, help="API keys of a gateway.")
app.add_typer(keys, name="keys")


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


@app.command()
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


@app.command()
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


@app.command()
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
