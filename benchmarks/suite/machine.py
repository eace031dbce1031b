"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")


@dataclass(frozen=True, slots=True)
class Machine:
    """Processor, memory, system, and the code that was measured."""

    processor: str
    cores: int
    instructions: list[str]
    memory_gib: float
    system: str
    python: str
    onnxruntime: str
    commit: str

    @classmethod
    def this(cls) -> Machine:
        """The machine that runs this."""
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        pairs = (line.partition(":") for line in lines if ":" in line)
        info = {key.strip(): value.strip() for key, _, value in pairs}
        flags = info.get("flags", "").split()
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
        return cls(
            processor=info.get("model name", platform.processor()),
            cores=len(os.sched_getaffinity(0)),
            instructions=[flag for flag in _FLAGS if flag in flags],
            memory_gib=round(memory, 1),
            system=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
            onnxruntime=version("onnxruntime"),
            commit=_commit(),
        )

    def sentence(self) -> str:
        """For a person."""
        return (
            f"{self.cores} cores of {self.processor} ({', '.join(self.instructions)}), "
            f"{self.memory_gib:g} GiB, "
            f"{self.system}, Python {self.python}, ONNX Runtime {self.onnxruntime}, commit {self.commit}"
        )


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(  # noqa: S603  # our own command
            command, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
