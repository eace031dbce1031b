"""Runs cells: starts every server for a cell, measures them in turns, keeps what was measured in a file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.servers.server import Server, StreamFailed
from benchmarks.suite import load
from benchmarks.suite.cells import Cell, Task
from benchmarks.suite.interference import QUIET_CORES, CpuTimes, quiet
from benchmarks.suite.metrics import Figures
from benchmarks.suite.prompts import PromptBook
from benchmarks.suite.scenarios import Scenario

_FIRST_PROMPT, _FIRST_TOKENS = 24, 2
_WARM_TOKENS = 8
_ATTEMPTS = 3
"""How often a measurement is made before one that others have disturbed is kept."""
_WAIT_SECONDS = 30
"""How long to wait for a quiet machine."""
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """One server, one cell, one round."""

    cell: str
    server: str
    round: int
    figures: Figures
    error: str = ""
    """Why there are no figures."""


class Results:
    """A file of JSON lines, one a record.

    Args:
        path: Where.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Record]:
        with suppress(FileNotFoundError), self.path.open(encoding="utf-8") as file:
            for line in file:
                with suppress(json.JSONDecodeError):  # the last line of a run that was killed
                    yield Record(**json.loads(line))

    def holds(self, task: Task, servers: Sequence[str]) -> bool:
        """Whether every server has figures of all rounds of a cell."""
        wanted = {(server, number) for server in servers for number in range(task.rounds)}
        return wanted <= {
            (each.server, each.round) for each in self if each.cell == task.cell.key and not each.error
        }

    def put(self, cell: Cell, records: Sequence[Record]) -> None:
        """Writes a cell's records in place of those that are there, at once or not at all."""
        kept = [record for record in self if record.cell != cell.key]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        lines = [json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in (*kept, *records)]
        partial.write_text("".join(lines), encoding="utf-8")
        partial.replace(self.path)


@dataclass(slots=True)
class Runner:
    """Measures cells.

    Args:
        servers: In the order in which they take turns.
        book: Writes the prompts.
        say: Shows progress, a line at a time.
    """

    servers: Sequence[Server]
    book: PromptBook
    say: Callable[[str], None]

    async def run(self, task: Task) -> list[Record]:
        """Measures one cell on all servers, in turns; every second round in reverse order.

        What fails is said and recorded, and the others go on.
        """
        cell = task.cell
        started: dict[str, Figures] = {}
        records: list[Record] = []
        try:
            for server in self.servers:
                try:
                    started[server.name] = await self._start(server, cell)
                except (StreamFailed, RuntimeError, TimeoutError, OSError) as error:
                    records += self._failures(task, server, error)
            for number in range(task.rounds):
                order = self.servers[::-1] if number % 2 else self.servers
                for server in order:
                    if server.name in started:
                        records.append(await self._measure(cell, server, number, started[server.name]))
        finally:
            for server in self.servers:
                await server.stop()
        return records

    async def _start(self, server: Server, cell: Cell) -> Figures:
        began = time.perf_counter()
        await server.start(cell.sizing)
        prompt = self.book.prompt(_FIRST_PROMPT, cell.key, "first")
        await load.read(server, prompt, _FIRST_TOKENS)
        ready = time.perf_counter() - began
        scenario = Scenario(server, self.book, (cell.key, "warm"))
        await load.run(
            server,
            cell.sizing.clients,
            lambda client: scenario.prompts(_FIRST_PROMPT, client),
            _WARM_TOKENS,
        )
        return {"start_up_s": ready, "idle_mib": server.tree.resident_bytes / _MIB}

    async def _measure(self, cell: Cell, server: Server, number: int, started: Figures) -> Record:
        """Measures until nobody else took part of the machine; the least disturbed attempt counts."""
        trees = [each.tree for each in self.servers]
        records = []
        for attempt in range(_ATTEMPTS):
            await quiet(trees, _WAIT_SECONDS)
            before = CpuTimes.now(trees)
            record = await self._measure_once(cell, server, (number, attempt), started)
            foreign = before.foreign_cores(CpuTimes.now(trees))
            record.figures["foreign_cores"] = foreign
            records.append(record)
            if foreign < QUIET_CORES or record.error:
                break
            self.say(f"  {server.name:24} others took {foreign:.2f} cores meanwhile")
        return min(records, key=lambda record: (bool(record.error), record.figures["foreign_cores"]))

    async def _measure_once(
        self, cell: Cell, server: Server, seed: tuple[int, int], started: Figures
    ) -> Record:
        number, _ = seed
        others = [each for each in self.servers if each is not server]
        idle = sum(each.tree.cpu_seconds for each in others)
        own, began = server.tree.cpu_seconds, time.perf_counter()
        try:
            figures = await Scenario(server, self.book, (cell.key, *seed)).run(cell)
        except StreamFailed as error:
            self.say(f"  {server.name:24} failed: {error}")
            return Record(cell.key, server.name, number, {}, str(error))
        seconds = time.perf_counter() - began
        measured = {
            "peak_rss_mib": server.tree.peak_bytes / _MIB,
            "server_cores": (server.tree.cpu_seconds - own) / seconds,
            "others_cores": (sum(each.tree.cpu_seconds for each in others) - idle) / seconds,
            "seconds": seconds,
        }
        self.say(f"  {server.name:24} {_line(figures)}  ({seconds:.1f} s)")
        return Record(cell.key, server.name, number, {**figures, **started, **measured})

    def _failures(self, task: Task, server: Server, error: BaseException) -> list[Record]:
        self.say(f"  {server.name:24} did not start: {error}")
        return [Record(task.cell.key, server.name, number, {}, str(error)) for number in range(task.rounds)]


def _line(figures: Figures) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in list(figures.items())[:6])
