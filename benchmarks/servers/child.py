"""A server's process: dies with the benchmark, keeps its log for the case that it fails."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress

from diplex.cli.lifeline import tied

_STOP_SECONDS = 10.0


class Child:
    """A running process. Started from the main thread: the tie is to the thread that starts it.

    Args:
        command: What runs.
        environment: Its whole environment.
        pass_fds: Descriptors that it inherits.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], pass_fds: Sequence[int] = ()
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the process has ended
        self._process = subprocess.Popen(  # noqa: S603  # our own commands
            tied(command),
            env=environment,
            pass_fds=pass_fds,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.pid = self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it runs no longer."""
        return self._process.poll() is not None

    def log(self, last: int = 2000) -> str:
        """The end of what it has written."""
        self._log.seek(0)
        return self._log.read()[-last:].decode(errors="replace")

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    async def stop(self) -> None:
        """Ends it, gently and then not."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, _STOP_SECONDS)
        if self._process.returncode is None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        self._log.close()
