"""How much memory a model takes: as it is loaded, and at most.

What a model may take at most is settled before it is loaded and holds while it is: keys and values have a
limit of their own, which the engine keeps to. So a budget is a matter of adding up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.messages import EngineConfig

MEBIBYTE: Final = 2**20

_RESERVED_TOKENS: Final = 64
"""Tokens by which a slot's memory runs ahead of what it holds, at most."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a backend says about one artefact."""

    loaded: int
    """Resident bytes of an engine that is loaded and warm and holds no tokens."""
    working: int
    """Bytes that a step may take beside that and beside keys and values."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """The memory of one engine process, in bytes."""

    loaded: int
    """Resident once it is loaded and warm and holds no tokens."""
    keys_values: int
    """What its slots may take at most."""
    working: int
    """What a step, and the features of pictures, may take beside."""

    @property
    def most(self) -> int:
        """What the process may come to."""
        return self.loaded + self.keys_values + self.working

    def measured(self, loaded: int) -> Footprint:
        """The same with what was found after the load."""
        return replace(self, loaded=loaded)

    def configured(self, config: EngineConfig) -> EngineConfig:
        """An engine's options with the limit on keys and values that this footprint counts on."""
        return replace(config, kv_mib=-(-self.keys_values // MEBIBYTE))


def footprint(
    needs: Needs, description: ModelDescription, config: EngineConfig, share: int | None = None
) -> Footprint:
    """What a model may take with given options.

    Keys and values get what ``--kv-mib`` says, else what the share leaves; but at least one whole sequence,
    and never more than all slots can hold.

    Args:
        needs: The backend's prediction.
        description: The model.
        config: Slots, lengths and limits.
        share: Bytes that one model should make do with; ``None`` for no such limit.
    """
    length = min(config.max_length or description.context_length, description.context_length)
    token_bytes = description.kv_bytes_per_token
    ahead = config.rows * _RESERVED_TOKENS * token_bytes
    everything = config.rows * length * token_bytes
    if config.kv_mib:
        granted = config.kv_mib * MEBIBYTE
    elif share is None:
        granted = everything
    else:
        granted = max(share - needs.loaded - needs.working - ahead, length * token_bytes)
    granted = min(granted, everything)
    features = config.image_cache_mib * MEBIBYTE if description.vision else 0
    return Footprint(needs.loaded, granted, needs.working + min(ahead, everything - granted) + features)
