"""``diplex models``, ``load`` and ``unload``: what the gateway's workers serve."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from diplex.cli.patience import PATIENCE
from diplex.cli.terminal import PIPED_WIDTH, standard_error
from diplex.client import Client, Deployment, LoadPhase, LoadProgress, Model, ModelList, ModelState

STATE_COLOURS = {ModelState.READY: "green", ModelState.FAILED: "red", ModelState.UNLOADED: "dim"}
_DIGEST_LENGTH = 12
_MEBIBYTE = 2**20
_IN_BYTES = (LoadPhase.DOWNLOAD, LoadPhase.VERIFY, LoadPhase.LOAD)


def run(*, address: str | None, as_json: bool) -> None:
    """Prints the list.

    Raises:
        DiplexError: As the client raises it.
    """
    with Client(address, patience=PATIENCE) as client:
        models = client.list_models(timeout=10)
    if as_json:
        sys.stdout.write(json.dumps(asdict(models), ensure_ascii=False, indent=2) + "\n")
        return
    Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH).print(_table(models))
    for model in models:
        for each in model.deployments:
            if each.detail:
                where = f"{model.name} on {each.worker}"
                standard_error().print(f"[dim]{escape(where)}: {escape(each.detail)}[/]")
    if not len(models):
        standard_error().print("[dim]no worker is connected, or none has a model: `diplex up` starts one[/]")


def _table(models: ModelList) -> Table:
    table = Table(box=SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False, header_style="dim")
    for heading in ("model", "backend", "precision", "state"):
        table.add_column(heading)
    for heading in ("memory", "slots", "context", "KL"):
        table.add_column(heading, justify="right")
    for heading in ("digest", "worker"):
        table.add_column(heading, style="dim")
    for model in models:
        for deployment in model.deployments:
            table.add_row(*_row(model, deployment, default=model.name == models.default_model))
    return table


def _row(model: Model, deployment: Deployment, *, default: bool) -> list[str]:
    colour = STATE_COLOURS.get(deployment.state, "yellow")
    slots = f"{deployment.busy_slots}/{deployment.slots}" if deployment.slots else ""
    if deployment.queued:
        slots += f" +{deployment.queued}"
    return [
        f"[bold]{escape(model.name)}[/]{' [dim](default)[/]' if default else ''}",
        deployment.backend,
        "" if deployment.precision == "unspecified" else deployment.precision,
        f"[{colour}]{deployment.state}[/]{' (pinned)' if deployment.pinned else ''}",
        _memory(deployment),
        slots,
        f"{model.context_length}" if model.context_length else "",
        f"{deployment.certificate.kl:.4f}" if deployment.certificate else "",
        deployment.digest.removeprefix("sha256:")[:_DIGEST_LENGTH],
        escape(deployment.worker),
    ]


def _memory(deployment: Deployment) -> str:
    """As it was loaded, or would be, and at most, in MiB: ``231/4059``, or ``~238/4059`` as predicted."""
    loaded = deployment.loaded_bytes or deployment.predicted_bytes
    if not loaded:
        return ""
    about = "" if deployment.loaded_bytes else "~"
    return f"{about}{_mebibytes(loaded)}/{_mebibytes(deployment.most_bytes)}"


def _mebibytes(size: int) -> int:
    return -(-size // _MEBIBYTE)


def load(name: str, *, address: str | None, timeout: float | None) -> None:
    """Loads a model, with progress on standard error.

    Raises:
        DiplexError: As the client raises it.
    """
    console = standard_error()
    with Client(address, patience=PATIENCE) as client, console.status("") as status:
        last = ""

        def show(progress: LoadProgress) -> None:
            nonlocal last
            status.update(f"[dim]{escape(_progress(progress))}[/]")
            if not console.is_terminal and progress.phase != last:
                console.print(escape(_progress(progress)))
            last = progress.phase

        model = client.load_model(name, progress=show, timeout=timeout)
    for deployment in model.deployments:
        memory = f"{_mebibytes(deployment.loaded_bytes)} MiB, at most {_mebibytes(deployment.most_bytes)}"
        console.print(
            f"{escape(model.name)}/{deployment.precision} is ready on {escape(deployment.worker)}: {memory}"
        )


def _progress(progress: LoadProgress) -> str:
    """As ``download 45%, 41.9 of 93.0 MB, 12 s left, a.gguf``."""
    parts = [str(progress.phase)]
    if progress.total:
        parts[0] += f" {100 * progress.done // progress.total}%"
    if progress.total and progress.phase in _IN_BYTES:
        parts.append(f"{progress.done / 1e6:.1f} of {progress.total / 1e6:.1f} MB")
    if progress.eta is not None:
        parts.append(f"{progress.eta:.0f} s left")
    return ", ".join([*parts, progress.detail] if progress.detail else parts)


def unload(name: str, *, address: str | None, timeout: float | None) -> None:
    """Unloads a model.

    Raises:
        DiplexError: As the client raises it.
    """
    with Client(address, patience=PATIENCE) as client:
        client.unload_model(name, timeout=timeout)
    standard_error().print(f"{escape(name)} is unloaded")
