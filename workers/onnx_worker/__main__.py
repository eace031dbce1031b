"""``python -m workers.onnx_worker``: serve models, prepare and verify them. Objects are wired here only."""

from __future__ import annotations

from diplex.polling import poll_without_event_engine

poll_without_event_engine()  # before the imports below bring in grpc

import asyncio
import os
import sys
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from diplex.errors import DiplexError
from diplex.serving import MEBIBYTE, ServerConfig
from diplex.telemetry import LogFormat, configure_logging
from workers.onnx_worker.footprint import converting, predict
from workers.onnx_worker.prepare import ToOnnx
from workers.onnx_worker.terms_prompt import agreed
from workers.runtime.catalogue import Catalogue, ModelEntry, overlay_paths
from workers.runtime.catalogue.watch import CatalogueFiles
from workers.runtime.engine.memory import available_bytes
from workers.runtime.engine.messages import (
    DEFAULT_CACHE_IDLE_SECONDS,
    DEFAULT_IMAGE_CACHE_MIB,
    DEFAULT_MAX_STALL,
    DEFAULT_PREFILL_CHUNK,
    DEFAULT_PREFIX_CACHE_MIB,
    DEFAULT_SHARED_PREFILL_CHUNK,
    EngineConfig,
)
from workers.runtime.fidelity.verdict import Verdict
from workers.runtime.progress import Report
from workers.runtime.progress_display import displayed
from workers.runtime.serve import WorkerConfig
from workers.runtime.serve import serve as serve_worker
from workers.runtime.store import PreparedArtefact, Store, default_home
from workers.runtime.supervisor.artefacts import BackendMemory, StoredArtefacts
from workers.runtime.supervisor.beat import DEFAULT_MESSAGES_PER_SECOND
from workers.runtime.supervisor.supervisor import Supervisor, SupervisorConfig
from workers.runtime.supervisor.terms import ServingConfig

BACKEND = "onnx"
DEFAULT_MODEL = "SmolLM2-135M-Instruct"

_SHARE: Final = 0.8
"""Of the available memory, what the budget is by default."""
_AMPLE_SHARE: Final = 4096 * MEBIBYTE
"""Half a budget that is as much as this leaves room for a second model that nobody has named yet."""

app = typer.Typer(
    help="The ONNX Runtime worker: serves models to a Diplex gateway, and prepares them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Home = Annotated[
    Path | None, typer.Option(envvar="DIPLEX_HOME", help="The model store.", show_default="the user's cache")
]
Overlays = Annotated[
    str, typer.Option("--catalogue", envvar="DIPLEX_MODELS", help="Further catalogue files, as in PATH.")
]
Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-licence",
        envvar="DIPLEX_ACCEPT_LICENCE",
        metavar="NAME",
        help="Agree to a model's terms, as gemma, without being asked; may be repeated.",
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME[/PROFILE]", help="A model of the catalogue.")]


@dataclass(frozen=True, slots=True)
class _Models:
    """Catalogue and store, as the options name them."""

    catalogue: Catalogue
    store: Store

    @classmethod
    def open(cls, home: Path | None, overlays: str, accepted: Collection[str] | None) -> _Models:
        store = Store(home or default_home(os.environ), accepted or ())
        return cls(Catalogue.load(overlay_paths(overlays)), store)

    def prepare(self, entry: ModelEntry, profile: str | None, report: Report) -> PreparedArtefact:
        return self.store.ensure(entry, BACKEND, profile, ToOnnx(), report)

    def ask(self, entry: ModelEntry, console: Console) -> None:
        """Asks whoever is at the terminal to agree to what must be agreed to before a download."""
        terms = self.store.open_terms(entry, BACKEND)
        if terms is not None and agreed(console, terms, entry.name):
            self.store.agree(terms)


@app.command()
def serve(
    *,
    listen: Annotated[
        str, typer.Option(envvar="DIPLEX_LISTEN", help="host:port, or unix:/path.")
    ] = "127.0.0.1:50061",
    model: Annotated[
        list[str] | None,
        typer.Option("--model", envvar="DIPLEX_MODEL", help="A model to load; may be repeated."),
    ] = None,
    home: Home = None,
    catalogue: Overlays = "",
    accept_licence: Accept = None,
    pin: Annotated[
        list[str] | None,
        typer.Option(
            envvar="DIPLEX_PIN",
            metavar="NAME[/PROFILE]",
            help="A model to load that stays, whatever else is asked for; may be repeated.",
        ),
    ] = None,
    memory_budget: Annotated[
        int,
        typer.Option(
            envvar="DIPLEX_MEMORY_BUDGET",
            min=0,
            help="MiB that the worker and all its engines may take together; "
            "0: four fifths of the memory that is available, control groups included.",
        ),
    ] = 0,
    residents: Annotated[
        int | None,
        typer.Option(
            envvar="DIPLEX_RESIDENTS",
            min=1,
            help="Models that the budget is to hold together: each gets such a share for all that it takes.",
            show_default="those that are named; 2 for one from 8 GiB on",
        ),
    ] = None,
    keep_alive: Annotated[
        float | None,
        typer.Option(
            envvar="DIPLEX_KEEP_ALIVE",
            min=0,
            help="Seconds without a request after which a model is unloaded.",
            show_default="never",
        ),
    ] = None,
    on_demand: Annotated[
        bool,
        typer.Option(
            envvar="DIPLEX_ON_DEMAND",
            help="Load a model of the catalogue when a request asks for it; idle ones may go for it.",
        ),
    ] = True,
    slots: Annotated[
        int, typer.Option(envvar="DIPLEX_SLOTS", min=1, max=256, help="Sequences decoded together, a model.")
    ] = 16,
    max_length: Annotated[
        int | None,
        typer.Option(envvar="DIPLEX_MAX_LENGTH", min=16, help="Tokens a sequence; default: the model's own."),
    ] = None,
    max_queue: Annotated[
        int, typer.Option(envvar="DIPLEX_MAX_QUEUE", min=0, help="Requests that may wait for a slot.")
    ] = 256,
    threads: Annotated[
        int,
        typer.Option(envvar="DIPLEX_THREADS", min=0, help="Threads that compute, a model; 0: one a core."),
    ] = 0,
    prefill_chunk: Annotated[
        int, typer.Option(min=1, help="Most prompt tokens a step when nothing is decoded.")
    ] = DEFAULT_PREFILL_CHUNK,
    shared_prefill_chunk: Annotated[
        int, typer.Option(min=1, help="Most prompt tokens a step while streams run, however fast they are.")
    ] = DEFAULT_SHARED_PREFILL_CHUNK,
    messages_per_second: Annotated[
        float,
        typer.Option(
            envvar="DIPLEX_MESSAGES_PER_SECOND",
            min=0,
            help="About how many messages all streams together send, once more than 8 run: the more run, "
            "the more tokens a message has. 0: always a message a step.",
        ),
    ] = DEFAULT_MESSAGES_PER_SECOND,
    max_stall: Annotated[
        float,
        typer.Option(
            envvar="DIPLEX_MAX_STALL",
            min=0,
            help="By how much a prompt may lengthen streams' gaps between tokens, in lengths of a gap; "
            "more where few streams would hold up many prompts.",
        ),
    ] = DEFAULT_MAX_STALL,
    kv_mib: Annotated[
        int,
        typer.Option(
            envvar="DIPLEX_KV_MIB",
            min=0,
            help="MiB for keys and values, a model; 0: what its share of the memory budget leaves.",
        ),
    ] = 0,
    prefix_cache_mib: Annotated[
        int,
        typer.Option(
            envvar="DIPLEX_PREFIX_CACHE_MIB",
            min=0,
            help="MiB, of those, that may hold tokens of sequences that have ended; 0: no prefix cache.",
        ),
    ] = DEFAULT_PREFIX_CACHE_MIB,
    cache_slots: Annotated[
        int | None,
        typer.Option(min=0, help="Slots beside --slots, for cached tokens only; default: as many again."),
    ] = None,
    cache_idle_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds without requests after which cached tokens are given back.")
    ] = DEFAULT_CACHE_IDLE_SECONDS,
    image_cache_mib: Annotated[
        int,
        typer.Option(
            envvar="DIPLEX_IMAGE_CACHE_MIB",
            min=1,
            help="MiB for features of pictures, a model with eyes: those in use and the latest before.",
        ),
    ] = DEFAULT_IMAGE_CACHE_MIB,
    speculation: Annotated[
        bool,
        typer.Option(
            envvar="DIPLEX_SPECULATION",
            help="Guess streams' next tokens from their own pasts where that pays; same tokens, sooner.",
        ),
    ] = True,
    max_message_mib: Annotated[
        int, typer.Option(min=1, help="Largest request, in MiB; more than the gateway lets in.")
    ] = 40,
    drain_seconds: Annotated[float, typer.Option(min=0, help="Time for running calls after SIGTERM.")] = 30.0,
    name: Annotated[str, typer.Option(envvar="DIPLEX_WORKER_NAME", help="Identity in receipts.")] = "",
    log_format: Annotated[
        LogFormat, typer.Option(envvar="DIPLEX_LOG_FORMAT", help="For machines or for people.")
    ] = "json",
) -> None:
    """Serve models to gateways until SIGTERM.

    Example: python -m workers.onnx_worker serve --listen 0.0.0.0:50061 --model SmolLM2-135M-Instruct
    """
    configure_logging("onnx-worker", log_format=log_format)
    engine = EngineConfig(
        folder=Path(),
        slots=slots,
        max_length=max_length,
        max_queue=max_queue,
        threads=threads,
        prefill_chunk=prefill_chunk,
        shared_prefill_chunk=shared_prefill_chunk,
        max_stall=max_stall,
        kv_mib=kv_mib,
        prefix_cache_mib=prefix_cache_mib,
        cache_slots=cache_slots,
        cache_idle_seconds=cache_idle_seconds,
        image_cache_mib=image_cache_mib,
        speculation=speculation,
    )
    files = CatalogueFiles(overlay_paths(catalogue))
    named = list(dict.fromkeys([*(model or []), *(pin or [])])) or [DEFAULT_MODEL]
    budget = memory_budget * MEBIBYTE or _default_budget()
    serving = ServingConfig(
        memory_budget=budget,
        residents=residents or max(len(named), _unnamed_residents(budget)),
        on_demand=on_demand,
        keep_alive=keep_alive,
        pinned=tuple(pin or ()),
    )
    server = ServerConfig(
        listen=listen, max_message_bytes=max_message_mib * MEBIBYTE, drain_seconds=drain_seconds
    )

    async def run() -> None:
        settings = SupervisorConfig(BACKEND, _module("engine"), engine, messages_per_second, serving)
        supervisor = Supervisor(settings, files.load(), _artefacts(home, accept_licence))
        await serve_worker(WorkerConfig(server, named, files, name), supervisor)

    asyncio.run(run())


@app.command()
def pull(name: Name, home: Home = None, catalogue: Overlays = "", accept_licence: Accept = None) -> None:
    """Download a model and convert it, as far as that isn't done yet.

    Where a model has terms that must be agreed to, they are shown and asked for before the first download.

    Example: python -m workers.onnx_worker pull SmolLM2-135M-Instruct
    """
    console = Console(stderr=True)
    models = _Models.open(home, catalogue, accept_licence)
    match = models.catalogue.find(name)
    models.ask(match.entry, console)
    with displayed(console) as report:
        artefact = models.prepare(match.entry, match.profile, report)
    manifest = artefact.manifest
    console.print(
        f"{manifest.model}/{manifest.profile} is ready: sha256:{artefact.digest[:12]}, {artefact.folder}",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def verify(
    name: Name,
    home: Home = None,
    catalogue: Overlays = "",
    accept_licence: Accept = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the certificate as JSON.")] = False,  # noqa: FBT002  # a flag
) -> None:
    """Check a model's files, and measure again how close they are to the float32 weights.

    Compares KL divergence, perplexity and top-1 agreement with the catalogue's certificate; needs no torch.
    Ends with 1 when a file has changed or the fidelity is worse than certified.

    Example: python -m workers.onnx_worker verify SmolLM2-135M-Instruct
    """
    from workers.onnx_worker.convert.certification import certify  # noqa: PLC0415  # heavy, and only for this

    console = Console(stderr=True)
    models = _Models.open(home, catalogue, accept_licence)
    match = models.catalogue.find(name)
    models.ask(match.entry, console)
    with displayed(console) as report:
        artefact = models.prepare(match.entry, match.profile, report)
        models.store.verify(artefact, report)
        source = models.store.source(match.entry, BACKEND, report)
        measured = certify(artefact.folder, source, report)
    model = f"{artefact.manifest.model}/{artefact.manifest.profile}"
    verdict = Verdict(model, artefact.digest, measured, artefact.certificate)
    typer.echo(verdict.as_json() if as_json else verdict.as_text())
    raise typer.Exit(0 if verdict.holds else 1)


def _artefacts(home: Path | None, accepted: Collection[str] | None) -> StoredArtefacts:
    return StoredArtefacts(
        Store(home or default_home(os.environ), accepted or ()),
        BACKEND,
        version=ToOnnx.version,
        command=_module("preparation"),
        memory=BackendMemory(f"onnxruntime {version('onnxruntime')}", predict, converting),
    )


def _module(name: str) -> tuple[str, ...]:
    return sys.executable, "-m", f"workers.onnx_worker.{name}"


def _default_budget() -> int | None:
    available = available_bytes()
    return None if available is None else int(_SHARE * available)


def _unnamed_residents(budget: int | None) -> int:
    return 1 if budget is not None and budget < 2 * _AMPLE_SHARE else 2


def main() -> None:
    """Runs a command; an error of ours is one line and exit code 1."""
    try:
        app()
    except (DiplexError, OSError) as error:
        Console(stderr=True).print(f"[red]error[/]: {error}", highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
