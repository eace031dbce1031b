"""What an engine has to know about a checkpoint, from its configuration and its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tokenizers
import torch
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerFast

from diplex.errors import UnsupportedModel
from workers.runtime.artefact import ModelDescription
from workers.runtime.checkpoint import CheckpointFolder
from workers.runtime.vision import VisionDescription
from workers.torch_worker.precision import stored_dtype
from workers.torch_worker.shape import Shape

_END_OF_TURN = "<|im_end|>"
"""ChatML's, whichever token the files name."""


@dataclass(frozen=True, slots=True)
class Words:
    """A checkpoint's tokenizer, and which tokens begin and end its texts."""

    tokenizer: tokenizers.Tokenizer
    begin: int | None
    ends: tuple[int, ...]
    add_begin: bool
    """Whether the tokenizer puts ``begin`` before a plain text."""
    template: str | None
    """The chat template, in Jinja."""

    @classmethod
    def of_folder(cls, folder: Path) -> Words:
        """Those of a published checkpoint.

        Raises:
            UnsupportedModel: A file can't be read, or the tokenizer isn't supported.
        """
        checkpoint = CheckpointFolder(folder)
        return cls(
            tokenizer=checkpoint.tokenizer.backend,
            begin=checkpoint.begin,
            ends=checkpoint.ends,
            add_begin=checkpoint.adds_begin,
            template=checkpoint.chat_template,
        )

    @classmethod
    def of_gguf(cls, file: Path) -> Words:
        """Those in the metadata of a GGUF file.

        Raises:
            UnsupportedModel: Transformers can't make a fast tokenizer of them.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        except Exception as error:  # what it raises depends on what is missing
            raise UnsupportedModel(
                f"transformers can't read the tokenizer of {file.name}: {error}"
            ) from error
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise UnsupportedModel(f"transformers makes no fast tokenizer of {file.name}")
        backend, begin = tokenizer.backend_tokenizer, tokenizer.bos_token_id
        template = tokenizer.chat_template
        ends = (tokenizer.eos_token_id, backend.token_to_id(_END_OF_TURN))
        return cls(
            tokenizer=backend,
            begin=begin,
            ends=tuple(dict.fromkeys(token for token in ends if token is not None)),
            add_begin=begin is not None and tokenizer("a").input_ids[:1] == [begin],
            template=template if isinstance(template, str) else None,
        )


def describe(
    config: PretrainedConfig, words: Words, profile: str, *, batched: bool, vision: VisionDescription | None
) -> ModelDescription:
    """The description of a prepared artefact.

    Raises:
        UnsupportedModel: The model isn't a decoder with keys and values.
    """
    text = config.get_text_config(decoder=True)
    shape = Shape.of(config)
    if shape is None:
        raise UnsupportedModel(f"{config.model_type} keeps no keys and values that could be counted")
    tokenizer = words.tokenizer
    dtype = torch.float32 if profile == "int8" else stored_dtype(profile)
    return ModelDescription(
        name=Path(config.name_or_path or "").name or config.model_type,
        architecture=config.model_type,
        precision=profile,
        vocab_size=text.vocab_size,
        context_length=text.max_position_embeddings,
        layers=shape.layers,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        hidden_size=text.hidden_size,
        bos_token_id=words.begin,
        eos_token_ids=words.ends,
        add_bos=words.add_begin,
        bos_token=None if words.begin is None else tokenizer.id_to_token(words.begin),
        eos_token=tokenizer.id_to_token(words.ends[0]) if words.ends else None,
        chat_template=words.template,
        kv_bytes_per_token=2 * shape.layers * shape.kv_heads * shape.head_dim * dtype.itemsize,
        batched=batched,
        vision=vision,
    )
