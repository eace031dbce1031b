"""Starts engine processes; where that takes long, one stands ready that waits to hear what to load."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.runtime.supervisor.frames import Frames

_STOP_SECONDS: Final = 5.0
"""How long an engine may take to end by itself once its socket is closed."""
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Child:
    """An engine's process and the connection to it."""

    process: asyncio.subprocess.Process
    frames: Frames

    @classmethod
    async def start(cls, command: Sequence[str]) -> Child:
        """Starts one.

        Args:
            command: What runs an engine; the descriptor of its socket is appended.

        Raises:
            OSError: The command can't be run.
        """
        ours, theirs = socket.socketpair()
        frames = await Frames.over(ours)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    str(theirs.fileno()),
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                )
        except BaseException:
            frames.close()
            raise
        return cls(process, frames)

    @property
    def lives(self) -> bool:
        """Whether it can be spoken to, as far as is known."""
        return self.process.returncode is None and not self.frames.closed.done()

    @property
    def resident_bytes(self) -> int:
        """Its resident memory; 0 when it can't be read."""
        try:
            statm = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii")
            return int(statm.split()[1]) * _PAGE_BYTES
        except (OSError, IndexError, ValueError):
            return 0

    async def stop(self) -> None:
        """Ends it, gently and then not."""
        self.frames.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), _STOP_SECONDS)
        if self.process.returncode is None:
            self.kill()
            await self.process.wait()

    def kill(self) -> None:
        """Sends SIGKILL unless it is known to have ended.

        Not through the process object: its ``kill`` polls first, which takes the exit code of a process that
        has just died away from asyncio's child watcher.
        """
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)


class Spawner:
    """Starts engines of one kind, and keeps a spare one if asked to.

    Args:
        command: What runs an engine; the descriptor of its socket is appended.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._spare: Child | None = None

    @property
    def has_spare(self) -> bool:
        """Whether a process stands ready."""
        return self._spare is not None and self._spare.lives

    @property
    def spare_bytes(self) -> int:
        """Resident memory of the spare; 0 without one."""
        return self._spare.resident_bytes if self._spare is not None else 0

    async def spawn(self) -> Child:
        """The spare one if there is one, else a new one.

        Raises:
            OSError: The command can't be run.
        """
        spare, self._spare = self._spare, None
        if spare is None:
            return await Child.start(self._command)
        if spare.lives:
            return spare
        await spare.stop()
        return await Child.start(self._command)

    async def keep_spare(self) -> None:
        """Starts a process ahead, unless there is one.

        Raises:
            OSError: The command can't be run.
        """
        if not self.has_spare:
            await self.close()
            self._spare = await Child.start(self._command)

    async def close(self) -> None:
        """Ends the spare."""
        spare, self._spare = self._spare, None
        if spare is not None:
            await spare.stop()
