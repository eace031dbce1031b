"""The processes of a server, with all that they have started: memory, CPU time."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_KIB = 1024


class ProcessTree:
    """Some processes and their descendants, read from ``/proc``.

    Args:
        roots: Process ids.
    """

    def __init__(self, roots: Iterable[int] = ()) -> None:
        self._roots = tuple(roots)

    @property
    def pids(self) -> list[int]:
        """All that run now, parents before children."""
        found = [pid for pid in self._roots if Path(f"/proc/{pid}").exists()]
        for pid in found:  # grows while it is walked
            with suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (task / "children").read_text().split())
        return found

    @property
    def resident_bytes(self) -> int:
        """Resident memory, summed; pages that processes share count in each."""
        return sum(self._status("VmRSS"))

    @property
    def peak_bytes(self) -> int:
        """The sum of each process's largest resident memory so far: at least the largest sum."""
        return sum(self._status("VmHWM"))

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all that run now."""
        total = 0.0
        for pid in self.pids:
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += (int(fields[11]) + int(fields[12])) / _TICKS  # utime, stime: proc(5)
        return total

    def _status(self, key: str) -> list[int]:
        values = []
        for pid in self.pids:
            with suppress(OSError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                values += [int(line.split()[1]) * _KIB for line in lines if line.startswith(f"{key}:")]
        return values
