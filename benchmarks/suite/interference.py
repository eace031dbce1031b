"""How much of the machine goes to somebody else while a server is measured."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers.process_tree import ProcessTree

_TICKS = os.sysconf("SC_CLK_TCK")
_LOOK_SECONDS = 0.5
QUIET_CORES = 0.2
"""Cores' worth of other processes up to which a measurement counts."""


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Seconds of CPU time since the machine has started."""

    at: float
    whole: float
    """Of everything."""
    stolen: float
    """That the hypervisor gave to other machines, while something here wanted to run."""
    trees: float
    """Of the servers."""
    own: float
    """Of this process and the children that it has waited for."""

    @classmethod
    def now(cls, trees: Sequence[ProcessTree]) -> CpuTimes:
        """Reads ``/proc/stat`` (see proc(5): user, nice, system, idle, iowait, irq, softirq, steal)."""
        user, nice, system, _, _, irq, softirq, stolen = (
            int(field) / _TICKS for field in Path("/proc/stat").read_text().split()[1:9]
        )
        own = os.times()
        return cls(
            time.perf_counter(),
            user + nice + system + irq + softirq,
            stolen,
            sum(tree.cpu_seconds for tree in trees),
            own.user + own.system + own.children_user + own.children_system,
        )

    def foreign_cores(self, later: CpuTimes) -> float:
        """Cores that other processes and other machines took between here and ``later``, on average."""
        ours = later.trees - self.trees + later.own - self.own
        taken = later.whole - self.whole - ours + later.stolen - self.stolen
        return max(0.0, taken / (later.at - self.at))


async def quiet(trees: Sequence[ProcessTree], most_seconds: float) -> None:
    """Returns once nobody else uses the machine, or after ``most_seconds``."""
    end = time.monotonic() + most_seconds
    before = CpuTimes.now(trees)
    while time.monotonic() < end:
        await asyncio.sleep(_LOOK_SECONDS)
        now = CpuTimes.now(trees)
        if before.foreign_cores(now) < QUIET_CORES:
            return
        before = now
