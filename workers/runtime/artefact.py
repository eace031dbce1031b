"""The prepared artefact: what a converter writes and an engine loads.

A prepared artefact is a folder, here of the ONNX worker::

    model.onnx        the graph; its inputs and outputs are described in workers.onnx_worker.convert.graph
    model.onnx.data   its weights
    stage-NN.onnx     the graph again, cut behind every few layers, over the same weights
                      (stage-NN-packed.onnx: a copy of its weights is to be laid out for the processor)
    tensors.json      where the weights of an int8 graph lie, for those who compute it without ONNX Runtime
    eyes.onnx         the eyes of a model that sees, over eyes.onnx.data (workers.onnx_worker.convert.eyes)
    tokenizer.json    a Hugging Face ``tokenizers`` file; adds no token by itself (see ``add_bos``)
    model.json        a ModelDescription

The torch worker's has ``config.json`` of transformers and ``weights-NNNN.safetensors`` in the place of the
first three. ``model.json`` is written last, so a folder that has one is complete.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from diplex.errors import UnsupportedModel
from workers.runtime.vision.description import VisionDescription

FORMAT_VERSION: Final = 2
"""Raised whenever an engine written for the version before could no longer use the artefact."""

MODEL_FILE: Final = "model.onnx"
WEIGHTS_FILE: Final = "model.onnx.data"
STAGE_FILES: Final = "stage-*.onnx"
"""Pattern of their names, which sort in the order of the stages."""
PACKED_STAGE: Final = "-packed.onnx"
"""How the name of a stage ends whose weights must be laid out for the processor before they are used."""
EYES_FILE: Final = "eyes.onnx"
EYES_WEIGHTS_FILE: Final = "eyes.onnx.data"
TOKENIZER_FILE: Final = "tokenizer.json"
DESCRIPTION_FILE: Final = "model.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """What an engine has to know about a prepared model besides its graph and its tokenizer."""

    name: str
    """The model's own name for people, from the source file; not the name clients ask for."""
    architecture: str
    """Family of the graph, as ``llama``."""
    precision: str
    """How the weights are held: ``int8`` or ``fp32``."""
    vocab_size: int
    """Width of the logits, in tokens."""
    context_length: int
    """Most tokens that one sequence can hold, prompt and answer together."""
    layers: int
    """Number of decoder layers, hence of key and value buffers."""
    kv_heads: int
    """Key (and value) heads a layer."""
    head_dim: int
    """Width of one head, in float32 elements."""
    hidden_size: int
    """Width of the residual stream, in elements."""
    bos_token_id: int | None
    """Token that opens a text, ``None`` when the model has none."""
    eos_token_ids: tuple[int, ...]
    """Tokens that end an answer, the source's own end-of-sequence token first; may be empty."""
    add_bos: bool
    """Whether ``bos_token_id`` must be put before a plain prompt. A chat template writes its own."""
    bos_token: str | None
    """Text of ``bos_token_id``: the chat template's ``bos_token``."""
    eos_token: str | None
    """Text of the source's end-of-sequence token: the chat template's ``eos_token``."""
    chat_template: str | None
    """Jinja template over ``messages``, ``None`` for a model that was not trained to chat."""
    kv_bytes_per_token: int
    """Bytes of key and value buffers that one token of one sequence takes, over all layers."""
    batched: bool = True
    """Whether several sequences are computed in one run; if not, one after the other."""
    vision: VisionDescription | None = None
    """Its eyes, ``None`` for a model that takes text only."""
    format_version: int = FORMAT_VERSION
    """Version of this layout, :data:`FORMAT_VERSION` when written."""

    @property
    def begin(self) -> tuple[int, ...]:
        """Tokens that must stand before a plain prompt."""
        return (self.bos_token_id,) if self.add_bos and self.bos_token_id is not None else ()

    def save(self, folder: Path) -> None:
        """Write ``model.json`` into ``folder``, the same bytes for the same description."""
        values = dataclasses.asdict(self)
        if self.vision is None:
            del values["vision"]
        text = json.dumps(values, indent=2, ensure_ascii=False)
        (folder / DESCRIPTION_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> ModelDescription:
        """Read ``model.json`` from ``folder``.

        Raises:
            UnsupportedModel: The file is missing, unreadable, or of another format version.
        """
        path = folder / DESCRIPTION_FILE
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            version = values["format_version"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = f"{path} can't be read ({error}); prepare the model again"
            raise UnsupportedModel(message) from error
        if version != FORMAT_VERSION:
            message = (
                f"{path} has format version {version!r}, this engine reads {FORMAT_VERSION}; prepare it again"
            )
            raise UnsupportedModel(message)
        try:
            vision = values.get("vision")
            return cls(
                **{
                    **values,
                    "eos_token_ids": tuple(values["eos_token_ids"]),
                    "vision": VisionDescription.from_json(vision) if vision else None,
                }
            )
        except (KeyError, TypeError) as error:
            message = f"{path} does not describe a prepared model ({error}); prepare the model again"
            raise UnsupportedModel(message) from error
