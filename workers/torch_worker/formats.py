"""What the torch worker can make of published files, as far as that shows without torch."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from diplex.errors import UnsupportedModel
from workers.runtime.adoption import Facts
from workers.runtime.catalogue import SamplingDefaults
from workers.runtime.checkpoint import CheckpointFolder
from workers.runtime.vision import describe_eyes

PROFILES: Final = ("int8", "bf16", "fp32", "fp16", "int4")
"""The default first."""


class TorchFormats:
    """A :class:`workers.runtime.adoption.Formats`."""

    backend: Final = "torch"

    def look_at_file(self, file: Path) -> Facts:
        """See :class:`workers.runtime.adoption.Formats`."""
        from gguf import GGUFReader  # noqa: PLC0415  # only for this

        try:
            fields = GGUFReader(file).fields
            architecture = str(fields["general.architecture"].contents())
            context = int(fields[f"{architecture}.context_length"].contents())
        except (ValueError, KeyError, IndexError, OSError) as error:
            raise UnsupportedModel(f"{file.name} is no GGUF file of a language model: {error}") from error
        template = fields.get("tokenizer.chat_template")
        return Facts(
            architecture=architecture,
            context_length=context,
            chat_template=None if template is None else str(template.contents()),
            sampling=SamplingDefaults(),
            profiles=PROFILES,
        )

    def look_at_folder(self, folder: Path, kind: str, files: Sequence[str]) -> Facts:  # noqa: ARG002  # by the protocol
        """See :class:`workers.runtime.adoption.Formats`; transformers has the last word, when it prepares."""
        if kind != "safetensors":
            raise UnsupportedModel(f"{folder.name} has {kind} files; the torch worker reads safetensors")
        checkpoint = CheckpointFolder(folder)
        if not _is_known(checkpoint.model_type):
            checkpoint.refuse_foreign_code(
                "a catalogue of your own can name the model, and --allow-remote-code NAME lets such code run"
            )
        checkpoint.tokenizer  # noqa: B018  # without which no text can be served
        text = (
            checkpoint.config.section("text_config")
            if "text_config" in checkpoint.config.keys
            else checkpoint.config
        )
        return Facts(
            architecture=checkpoint.model_type,
            context_length=text.require("max_position_embeddings", int),
            chat_template=checkpoint.chat_template,
            sampling=checkpoint.generation.sampling,
            profiles=PROFILES,
            images=describe_eyes(folder, checkpoint.model_type) is not None,
        )


def _is_known(model_type: str) -> bool:
    """Whether transformers has the architecture, as its folders tell without importing it."""
    found = find_spec("transformers")
    if found is None or found.origin is None:
        return False
    return (Path(found.origin).parent / "models" / model_type.replace("-", "_")).is_dir()
