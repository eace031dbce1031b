"""``diplex up``: gateway and workers as local processes, ready to answer, until Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from diplex import errors
from diplex.cli import listening, worker_module
from diplex.cli.child_logs import JsonLogs, Logs, ReadableLogs, readable_line
from diplex.cli.pace import Pace
from diplex.cli.processes import ChildFailed, Command, Supervisor, ending
from diplex.cli.terminal import ExitCode, standard_error, write_text
from diplex.client import DEFAULT_ADDRESS, AsyncClient, ModelState

_READY_SECONDS = 300.0
"""How long a model may take to load."""
_LOOK_SECONDS = 0.1
"""Between two looks at a model that is being loaded."""

_JSON_LOGS = ("--log-format", "json")
"""We make them readable, or pass them on."""


@dataclass(frozen=True, slots=True)
class TorchPlan:
    """A torch worker beside the ONNX worker."""

    python: str
    """The interpreter of the environment that has torch."""
    models: tuple[str, ...] = ()
    """What it loads at the start; others when they are asked for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    models: tuple[str, ...]
    """Names in the catalogue; the first serves requests that name none."""
    listen: str
    slots: int | None
    """Sequences decoded together, a model; ``None``: the worker's default."""
    threads: int | None
    """Threads that compute; ``None``: the worker's default."""
    sample: str | None
    """Prompt to answer once ready."""
    system: str
    """System message of the sample."""
    verbose: bool
    json_logs: bool
    torch: TorchPlan | None = None
    """The torch worker; ``None`` for none."""
    http_listen: str | None = ""
    """Where the gateway serves HTTP; ``None``: the usual port, or any if that is taken; empty: nowhere."""
    private: bool = False
    """The gateway listens on a socket that only this user reaches, and nowhere else."""

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of all models that are loaded at the start."""
        return self.models + (self.torch.models if self.torch else ())

    def commands(self, listen: str, folder: Path) -> tuple[Command, ...]:
        """Workers and gateway, which talk over sockets in ``folder``."""
        sockets = [f"unix:{folder}/onnx.sock"]
        onnx = [sys.executable, "-m", worker_module.MODULE]
        commands = [Command("worker", self._worker(onnx, sockets[0], self.models))]
        if self.torch is not None:
            sockets.append(f"unix:{folder}/torch.sock")
            torch = [self.torch.python, "-m", worker_module.TORCH_MODULE]
            commands.append(Command("torch-worker", self._worker(torch, sockets[1], self.torch.models)))
        gateway = [sys.executable, "-m", "gateway", "--listen", listen, "--workers", ",".join(sockets)]
        gateway += ["--default-model", self.models[0], *_JSON_LOGS]
        if self.http_listen:
            gateway += ["--http-listen", self.http_listen]
        return (*commands, Command("gateway", gateway))

    def _worker(self, program: Sequence[str], socket: str, models: Sequence[str]) -> list[str]:
        command = [*program, "serve", "--listen", socket, *_JSON_LOGS]
        for name in models:
            command += ["--model", name]
        if self.slots is not None:
            command += ["--slots", str(self.slots)]
        if self.threads is not None:
            command += ["--threads", str(self.threads)]
        return command


def run(plan: Plan) -> int:
    """Prepares the models, then runs everything until a signal; returns the exit code.

    Raises:
        DiplexError: It can't start; says why.
    """
    worker_module.require()
    if plan.torch is not None:
        worker_module.require_torch(plan.torch.python)
    plan = replace(plan, models=tuple(_absolute(name) for name in plan.models))
    listen = "" if plan.private else listening.free_address(plan.listen)
    plan = replace(plan, http_listen="" if plan.private else listening.free_http_address(plan.http_listen))
    for name in plan.models:
        if code := worker_module.run("pull", name):
            return code
    if plan.torch is not None:
        for name in plan.torch.models:
            if code := worker_module.foreground(
                [plan.torch.python, "-m", worker_module.TORCH_MODULE, "pull", name]
            ):
                return code
    with listening.private_folder() as folder:
        return asyncio.run(_Up(plan, listen or f"unix:{folder}/gateway.sock", folder).run())


class _Up:
    def __init__(self, plan: Plan, listen: str, folder: Path) -> None:
        self._plan = plan
        self._address = listening.reachable(listen) if not listen.startswith("unix:") else listen
        self._console = standard_error()
        self._url = listening.url(plan.http_listen or "")
        commands = plan.commands(listen, folder)
        self._logs = _logs(plan, self._console, [each.name for each in commands])
        self._supervisor = Supervisor(commands, on_line=self._logs.line, on_restart=self._say_restart)

    async def run(self) -> int:
        signals = _signals()
        working = asyncio.create_task(self._work())
        first = asyncio.create_task(signals.get())
        try:
            await asyncio.wait((working, first), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                self._say("stopping; Ctrl-C again kills")
                working.cancel()
            code = await self._outcome(working)
        finally:
            first.cancel()
            await self._stop(signals)
        return code

    async def _outcome(self, working: asyncio.Task[None]) -> int:
        try:
            await working
        except asyncio.CancelledError:
            return ExitCode.OK
        except ChildFailed as failure:
            self._say_failure(failure)
            return ExitCode.FAILED
        return ExitCode.OK

    async def _work(self) -> None:
        async with AsyncClient(self._address) as client:
            with self._waiting():
                await self._supervisor.start(_ready(client, self._plan.loaded))
            if self._plan.sample:
                await self._answer_sample(client, self._plan.sample)
            self._say_ready()
        await self._supervisor.watch()

    async def _stop(self, signals: asyncio.Queue[int]) -> None:
        stopping = asyncio.create_task(self._supervisor.stop())
        again = asyncio.create_task(signals.get())
        await asyncio.wait((stopping, again), return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            self._supervisor.kill()
        again.cancel()
        await stopping

    async def _answer_sample(self, client: AsyncClient, prompt: str) -> None:
        pace = Pace()
        self._console.print(f"[bold cyan]▸[/] {escape(prompt)}")
        try:
            # Greedy: the first impression should be the likeliest answer.
            async with client.stream(
                prompt, system=self._plan.system, temperature=0, max_tokens=200, timeout=120
            ) as stream:
                async for delta in stream:
                    pace.take(delta)
                    write_text(delta.text)
                write_text("\n")
                self._console.print(f"[dim]{escape(pace.line(stream.receipt))}[/]")
        except errors.DiplexError as error:
            self._logs.remark(f"the sample prompt failed: {error}")

    def _waiting(self) -> AbstractContextManager[object]:
        if self._plan.json_logs or not self._console.is_terminal:
            return nullcontext()
        return self._console.status("[dim]starting worker and gateway, loading the model…[/]")

    def _say(self, text: str) -> None:
        if self._plan.json_logs:
            self._logs.remark(text, level="info")
        else:
            self._console.print(f"[dim]{escape(text)}[/]")

    def _say_ready(self) -> None:
        if self._plan.json_logs:
            self._logs.remark(
                "ready", level="info", address=self._address, url=self._url, models=self._plan.models
            )
            return
        models = ", ".join(self._plan.models)
        diplex = _own_name()
        http = f"for OpenAI's clients: [bold]{escape(self._url)}[/]\n" if self._url else ""
        if page := listening.page(self._plan.http_listen or ""):
            http = f"in the browser: [bold]{escape(page)}[/]\n{http}"
        elsewhere = "" if self._address == DEFAULT_ADDRESS else f" --address {self._address}"
        Console(highlight=False, soft_wrap=True).print(
            f"\n[bold green]ready[/] at [bold]{escape(self._address)}[/] with {escape(models)}\n{http}\n"
            f'  {diplex} generate{elsewhere} "What is the capital of France?"\n'
            f"  {diplex} chat{elsewhere}\n"
            f"  {diplex} models{elsewhere}\n\n"
            "[dim]Ctrl-C stops[/]"
        )

    def _say_restart(self, name: str, code: int, pause: float) -> None:
        text = f"{name} {ending(code)}; it starts again in {pause:.1f} s"
        self._logs.remark(text, child=name, code=code)

    def _say_failure(self, failure: ChildFailed) -> None:
        again = f" {failure.deaths} times in a row" if failure.deaths > 1 else " during start-up"
        text = f"{failure}{again}; its last lines:"
        if self._plan.json_logs:
            self._logs.remark(text, child=failure.name, code=failure.code, lines=failure.lines)
            return
        self._console.print(f"[bold red]error[/] {escape(text)}")
        for line in failure.lines:
            self._console.print(f"  [dim]{escape(readable_line(line))}[/]")


async def _ready(client: AsyncClient, names: Sequence[str]) -> None:
    """Waits until the named models can answer.

    Raises:
        UnsupportedModel: One of them could not be loaded, so that waiting would not help.
        DeadlineExceeded: It takes too long.
    """
    for name in names:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await _loaded(client, name)
        except TimeoutError:
            raise errors.DeadlineExceeded(f"{name} was not loaded within {_READY_SECONDS:.0f} s") from None


async def _loaded(client: AsyncClient, name: str) -> None:
    while True:
        with suppress(errors.Unavailable, errors.ModelNotFound):  # not started, or not reported, yet
            model = await client.get_model(name)
            for deployment in model.deployments:
                if deployment.state is ModelState.FAILED:
                    raise errors.UnsupportedModel(f"{model.name}: {deployment.detail}")
            if any(deployment.state is ModelState.READY for deployment in model.deployments):
                return
        await asyncio.sleep(_LOOK_SECONDS)


def _absolute(name: str) -> str:
    """A path as worker and gateway both know it; other names as they are."""
    is_path = name[:1] in {".", "/", "~"} or (name.endswith(".gguf") and not name.startswith("hf:"))
    return str(Path(name).expanduser().absolute()) if is_path else name


def _own_name() -> str:
    """How `diplex` is called from here: by its name if that is on the path, else by where it lies."""
    program = Path(sys.argv[0])
    found = shutil.which("diplex")
    if program.name != "diplex" or (found and Path(found).resolve() == program.resolve()):
        return "diplex"
    with suppress(ValueError):
        return str(program.absolute().relative_to(Path.cwd()))
    return str(program)


def _logs(plan: Plan, console: Console, names: list[str]) -> Logs:
    if plan.json_logs:
        return JsonLogs()
    return ReadableLogs(console, names, logging.INFO if plan.verbose else logging.WARNING)


def _signals() -> asyncio.Queue[int]:
    queue: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, queue.put_nowait, number)
    return queue
