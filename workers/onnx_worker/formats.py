"""What the ONNX worker can make of published files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from diplex.errors import UnsupportedModel
from workers.onnx_worker.published import selection
from workers.onnx_worker.published.settings import context_length, sees
from workers.runtime.adoption import Facts
from workers.runtime.catalogue import SamplingDefaults
from workers.runtime.checkpoint import SEEING, CheckpointFolder, language_part
from workers.runtime.checkpoint.decoder import FAMILIES, SUPPORTED, read_decoder

PROFILES: Final = ("int8", "fp32", "fp16", "q4", "q4_mixed")
"""Of what is converted, the default first."""


class OnnxFormats:
    """A :class:`workers.runtime.adoption.Formats`."""

    backend: Final = "onnx"

    def look_at_file(self, file: Path) -> Facts:
        """See :class:`workers.runtime.adoption.Formats`."""
        # Imported here, so that a worker whose models are prepared never loads onnx and gguf.
        from workers.onnx_worker.convert.gguf_model import GgufModel  # noqa: PLC0415

        description = GgufModel(file).describe(PROFILES[0])
        return Facts(
            architecture=description.architecture,
            context_length=description.context_length,
            chat_template=description.chat_template,
            sampling=SamplingDefaults(),
            profiles=PROFILES,
        )

    def look_at_folder(self, folder: Path, kind: str, files: Sequence[str]) -> Facts:
        """See :class:`workers.runtime.adoption.Formats`."""
        checkpoint = CheckpointFolder(folder)
        checkpoint.tokenizer  # noqa: B018  # without which no text can be served
        if kind == "onnx":
            return _published(checkpoint, files)
        language = language_part(checkpoint)
        if language.model_type not in FAMILIES:
            checkpoint.refuse_foreign_code(SUPPORTED)
        return Facts(
            architecture=checkpoint.model_type,
            context_length=read_decoder(language.config).context,
            chat_template=checkpoint.chat_template,
            sampling=checkpoint.generation.sampling,
            profiles=PROFILES,
            images=checkpoint.model_type in SEEING,
        )


def _published(checkpoint: CheckpointFolder, files: Sequence[str]) -> Facts:
    profiles, seeing = [], sees(checkpoint)
    for profile in selection.PROFILES:
        with suppress(UnsupportedModel):
            selection.select(files, profile, sees=seeing)
            profiles.append(profile)
    if not profiles:
        selection.select(files, selection.PROFILES[0], sees=seeing)  # which says what is missing
    default = "int8" if "int8" in profiles else profiles[0]
    return Facts(
        architecture=checkpoint.model_type,
        context_length=context_length(checkpoint.config),
        chat_template=checkpoint.chat_template,
        sampling=checkpoint.generation.sampling,
        profiles=(default, *(profile for profile in profiles if profile != default)),
        images=seeing and selection.select(files, default).vision is not None,
    )
