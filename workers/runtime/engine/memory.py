"""How much memory there is for keys and values."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from diplex.errors import ResourceExhausted
from workers.runtime.artefact import ModelDescription
from workers.runtime.control_groups import CGROUPS, PROC, own_groups, read
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.scheduler import Limits

_MEBIBYTE: Final = 2**20

_SHARE: Final = 0.8
"""Of the available memory, what keys and values may take by default: the rest is for other processes and for
what a step needs while it runs."""
_LEAST_TOKENS: Final = 16


def engine_limits(
    config: EngineConfig, description: ModelDescription, max_length: int, stages: int = 1
) -> Limits:
    """What an engine may give away, by its options and by the memory that is available now.

    Args:
        config: The engine's options.
        description: The model.
        max_length: Tokens that a slot can hold.
        stages: Parts of the model that the backend can compute one by one.

    Raises:
        ResourceExhausted: There is hardly any memory for keys and values.
    """
    token_bytes = description.kv_bytes_per_token
    tokens = config.rows * max_length
    if config.kv_mib:
        tokens = min(tokens, config.kv_mib * _MEBIBYTE // token_bytes)
    elif (available := available_bytes()) is not None:
        tokens = min(tokens, int(_SHARE * available) // token_bytes)
    if tokens < _LEAST_TOKENS:
        raise ResourceExhausted(
            f"keys and values of {tokens} tokens fit into memory ({token_bytes} bytes each), "
            f"which is less than {_LEAST_TOKENS}: give more with --kv-mib, or free some memory"
        )
    cached = config.prefix_cache_mib * _MEBIBYTE // token_bytes
    return Limits(config.slots, config.rows, min(max_length, tokens), tokens, cached, stages)


def available_bytes(proc: Path = PROC, cgroups: Path = CGROUPS) -> int | None:
    """Memory that can be had without swapping; ``None`` where that can't be read.

    The least of what the machine has and what is left of the limits of the process's control group (version
    2) and of all groups around it.
    """
    rooms = [_machine(proc / "meminfo"), *map(_room, own_groups(proc, cgroups))]
    return min((room for room in rooms if room is not None), default=None)


def _machine(meminfo: Path) -> int | None:
    for line in read(meminfo).splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _room(group: Path) -> int | None:
    """What the group may still take; file pages that can be dropped count as room."""
    limit, current = read(group / "memory.max").strip(), read(group / "memory.current").strip()
    if not limit.isdigit() or not current.isdigit():
        return None
    inactive = 0
    for line in read(group / "memory.stat").splitlines():
        if line.startswith("inactive_file "):
            inactive = int(line.split()[1])
    return max(int(limit) - int(current) + inactive, 0)
