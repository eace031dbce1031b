"""The control groups (version 2) that this process is in: https://docs.kernel.org/admin-guide/cgroup-v2.html."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
CGROUPS: Final = Path("/sys/fs/cgroup")


def own_groups(proc: Path = PROC, cgroups: Path = CGROUPS) -> list[Path]:
    """Folders of the process's own group and of all around it, up to the root."""
    own = next((line[3:] for line in read(proc / "self/cgroup").splitlines() if line.startswith("0::")), "")
    group = cgroups / own.strip("/")
    return [folder for folder in (group, *group.parents) if folder.is_relative_to(cgroups)]


def read(file: Path) -> str:
    """What a file says; nothing if it can't be read."""
    try:
        return file.read_text(encoding="ascii")
    except OSError:
        return ""
