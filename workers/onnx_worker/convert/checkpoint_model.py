"""A folder of safetensors as the converter takes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from diplex.errors import UnsupportedModel
from workers.onnx_worker.convert.checkpoint_shape import read_shape
from workers.onnx_worker.convert.checkpoint_tensors import CheckpointTensors
from workers.onnx_worker.convert.eyes.converter import SourceEyes
from workers.onnx_worker.convert.published import kv_bytes
from workers.runtime.artefact import ModelDescription
from workers.runtime.checkpoint import CheckpointFolder, language_part
from workers.runtime.checkpoint.decoder import FAMILIES, SUPPORTED, read_decoder


class CheckpointModel:
    """A :class:`~workers.onnx_worker.convert.published.Published`.

    Args:
        path: The folder.

    Raises:
        UnsupportedModel: The folder or its model can't be converted; the message says what can.
        OSError: A file can't be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        whole = CheckpointFolder(path)
        self._folder = folder = language_part(whole)
        if folder.model_type not in FAMILIES:
            folder.refuse_foreign_code(SUPPORTED)
        decoder = read_decoder(folder.config)
        shape = read_shape(decoder, folder)
        self.eyes = SourceEyes.of(whole, shape.hidden)
        self.shape = replace(shape, sees=self.eyes is not None)
        self.tensors = CheckpointTensors(folder.tensors, decoder, self.shape)
        self.tokenizer = folder.tokenizer.backend
        self._check_vocabulary()

    def describe(self, precision: str) -> ModelDescription:
        """See :class:`~workers.onnx_worker.convert.published.Published`."""
        folder, shape = self._folder, self.shape
        tokens, ends = folder.tokens, folder.ends
        begin = tokens.bos_token
        if begin is None and folder.begin is not None and folder.adds_begin:
            begin = self.tokenizer.id_to_token(folder.begin)
        end = tokens.eos_token or (self.tokenizer.id_to_token(ends[0]) if ends else None)
        origin = folder.config.get("_name_or_path", str)
        return ModelDescription(
            name=origin.rstrip("/").rpartition("/")[2] if origin else folder.model_type,
            architecture=shape.family.name,
            precision=precision,
            vocab_size=shape.vocab,
            context_length=shape.context,
            layers=shape.layers,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            hidden_size=shape.hidden,
            bos_token_id=folder.begin,
            eos_token_ids=ends,
            add_bos=folder.adds_begin,
            bos_token=begin,
            eos_token=end,
            chat_template=folder.chat_template,
            kv_bytes_per_token=kv_bytes(shape),
            vision=None if self.eyes is None else self.eyes.description,
        )

    def _check_vocabulary(self) -> None:
        known, folder = self.tokenizer.get_vocab_size(with_added_tokens=True), self._folder
        if known > self.shape.vocab:
            message = f"the tokenizer has {known} tokens, the embedding {self.shape.vocab}"
            raise UnsupportedModel(f"{folder.path.name} can't be converted: {message}")
        named = [token for token in (folder.begin, *folder.ends) if token is not None]
        if max(named, default=0) >= self.shape.vocab:
            message = f"its settings name token {max(named)}, and the embedding has {self.shape.vocab}"
            raise UnsupportedModel(f"{folder.path.name} can't be converted: {message}")
