"""What a backend finds when it looks at a model that nobody has described."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workers.runtime.catalogue import SamplingDefaults


@dataclass(frozen=True, slots=True)
class Facts:
    """What a catalogue would say of it."""

    architecture: str
    context_length: int
    """Tokens, prompt and answer together."""
    chat_template: str | None
    sampling: SamplingDefaults
    profiles: tuple[str, ...]
    """Precision profiles that it can have, the default first."""
    images: bool = False
    """Whether it sees."""


class Formats(Protocol):
    """Looks at published files for one backend."""

    @property
    def backend(self) -> str:
        """As ``onnx``."""

    def look_at_file(self, file: Path) -> Facts:
        """Look at a GGUF file.

        Raises:
            UnsupportedModel: The backend can't serve it; says why.
        """

    def look_at_folder(self, folder: Path, kind: str, files: Sequence[str]) -> Facts:
        """Look at a folder, of which only the settings need to be there.

        Args:
            folder: Has ``config.json`` and other small files.
            kind: ``safetensors`` or ``onnx``.
            files: Paths of all the model's files.

        Raises:
            UnsupportedModel: The backend can't serve it; says why.
        """
