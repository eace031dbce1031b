"""Child processes that are kept alive: started, watched, restarted with growing pauses, stopped in order."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from diplex.cli.lifeline import tied

_KEPT_LINES = 15
"""Last lines of a child's output that an error shows."""
_LEFTOVER_SECONDS = 1.0
"""How long the output of a dead child is read on: its own children may hold the pipe open."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program to keep running."""

    name: str
    argv: Sequence[str]


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When and how often a dead child is started again."""

    first_pause: float = 0.5
    """Seconds before the first restart; doubles with each further rapid failure."""
    longest_pause: float = 15.0
    """Seconds, before jitter."""
    steady_after: float = 30.0
    """A child that lived so many seconds has not failed rapidly: counting begins anew."""
    most_failures: int = 5
    """Rapid failures in a row after which it is given up."""

    def pause(self, failures: int) -> float:
        """Seconds before the restart after the given number of rapid failures, with jitter of a quarter."""
        pause = min(self.longest_pause, self.first_pause * 2.0 ** (failures - 1))
        return pause * random.uniform(0.75, 1.25)  # noqa: S311  # spreads restarts, guards nothing


class ChildFailed(Exception):
    """A child died during start-up, or again and again.

    Args:
        name: The child's.
        code: Its exit code; negative for a signal.
        lines: The last that it wrote.
        deaths: How often it died in a row.
    """

    def __init__(self, name: str, code: int, lines: Sequence[str], deaths: int) -> None:
        super().__init__(f"{name} {ending(code)}")
        self.name = name
        self.code = code
        self.lines = tuple(lines)
        self.deaths = deaths


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exited with code {code}"
    with suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"


class Supervisor:
    """Keeps commands running. Start it from the main thread (see :mod:`diplex.cli.lifeline`).

    Args:
        commands: In the order in which they start; they stop in the reverse order.
        on_line: Called with a child's name and each line that it writes.
        on_restart: Called with a child's name, its exit code and the pause in seconds before it starts again.
        policy: When to restart.
        stop_seconds: How long a child may take to end before it is killed.
    """

    def __init__(
        self,
        commands: Sequence[Command],
        *,
        on_line: Callable[[str, str], None],
        on_restart: Callable[[str, int, float], None],
        policy: RestartPolicy | None = None,
        stop_seconds: float = 40.0,
    ) -> None:
        self._commands = commands
        self._on_line = on_line
        self._on_restart = on_restart
        self._policy = policy or RestartPolicy()
        self._stop_seconds = stop_seconds
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._lines = {each.name: deque[str](maxlen=_KEPT_LINES) for each in commands}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._started = False
        self._stopping = False

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the children that run now, by name."""
        return {name: each.pid for name, each in self._processes.items() if each.returncode is None}

    async def start(self, ready: Awaitable[None]) -> None:
        """Starts all commands and returns when ``ready`` does; until then no death is forgiven.

        Raises:
            ChildFailed: A child died first.
        """
        for command in self._commands:
            self._tasks[command.name] = asyncio.create_task(self._keep(command))
        check = asyncio.ensure_future(ready)
        try:
            await asyncio.wait((check, *self._tasks.values()), return_when=asyncio.FIRST_COMPLETED)
            self._raise_failure()
            await check
        finally:
            check.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await check
        self._started = True

    async def watch(self) -> None:
        """Returns only when something has gone wrong for good, by an error.

        Raises:
            ChildFailed: A child failed too often in a row.
        """
        await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        self._raise_failure()

    async def stop(self) -> None:
        """Ends the children, last started first: SIGTERM, time to end, then SIGKILL."""
        self._stopping = True
        for name, task in reversed(self._tasks.items()):
            if name not in self.pids:
                task.cancel()
            self._signal(name, signal.SIGTERM)
            _, late = await asyncio.wait((task,), timeout=self._stop_seconds)
            if late:
                self._signal(name, signal.SIGKILL)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def stop_together(self) -> None:
        """Ends the children, all at the same time: SIGTERM, time to end, then SIGKILL."""
        self._stopping = True
        for name, task in self._tasks.items():
            if name not in self.pids:
                task.cancel()
        self.terminate()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=self._stop_seconds)
        self.kill()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def terminate(self) -> None:
        """SIGTERM to all children."""
        for name in self._processes:
            self._signal(name, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to all children and theirs; :meth:`stop` then returns at once."""
        self._stopping = True
        for name in self._processes:
            self._signal(name, signal.SIGKILL)

    def _raise_failure(self) -> None:
        for task in self._tasks.values():
            if task.done() and not task.cancelled():
                task.result()

    def _signal(self, name: str, number: signal.Signals) -> None:
        process = self._processes.get(name)
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            if number is signal.SIGKILL:
                os.killpg(process.pid, number)  # it leads a group of its own: whatever it started goes too
            else:
                process.send_signal(number)

    async def _keep(self, command: Command) -> None:
        now = asyncio.get_running_loop().time
        failures = 0
        while True:
            begin = now()
            code = await self._run(command)
            if self._stopping:
                return
            failures = 1 if now() - begin >= self._policy.steady_after else failures + 1
            if not self._started or failures > self._policy.most_failures:
                raise ChildFailed(command.name, code, self._lines[command.name], failures)
            pause = self._policy.pause(failures)
            self._on_restart(command.name, code, pause)
            await asyncio.sleep(pause)

    async def _run(self, command: Command) -> int:
        # A pipe of our own, since asyncio's would make wait() last until the child's own children, which
        # inherit it, have ended too.
        output, childs_end = os.pipe()
        reading = asyncio.create_task(self._read(command.name, output))
        try:
            process = await asyncio.create_subprocess_exec(
                *tied(command.argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=childs_end,
                stderr=childs_end,
                start_new_session=True,  # Ctrl-C in the terminal is for us; we then stop them in order
            )
            self._processes[command.name] = process
        finally:
            os.close(childs_end)
        try:
            code = await process.wait()
            await asyncio.wait((reading,), timeout=_LEFTOVER_SECONDS)
        finally:
            reading.cancel()
        return code

    async def _read(self, name: str, output: int) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb")
        )
        rest = b""
        try:
            while chunk := await reader.read(1 << 16):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._take(name, line)
            if rest:
                self._take(name, rest)
        finally:
            transport.close()

    def _take(self, name: str, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self._lines[name].append(text)
        self._on_line(name, text)
