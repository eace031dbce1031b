"""How many cores this process may keep busy."""

from __future__ import annotations

import os
from pathlib import Path

from workers.runtime.control_groups import CGROUPS, PROC, own_groups, read


def usable_cores(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """Cores that the process may run on, and no more than the quotas of its control groups come to.

    A container that may use two of 64 cores runs on all of them in turns: with a thread for each, most would
    be stopped most of the time.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = (_quota(read(group / "cpu.max")) for group in own_groups(proc, cgroups))
    return max(round(min([there, *(quota for quota in quotas if quota is not None)])), 1)


def _quota(limit: str) -> float | None:
    """Cores, from microseconds a period: ``200000 100000``; ``None`` without a limit."""
    quota, _, period = limit.partition(" ")
    return int(quota) / int(period) if quota.isdigit() else None
