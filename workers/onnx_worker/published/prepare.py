"""From a published folder of ONNX graphs to a prepared artefact: nothing is converted, it is described."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from workers.onnx_worker.published import selection
from workers.onnx_worker.published.decoder import Decoder
from workers.onnx_worker.published.graphs import Graphs
from workers.onnx_worker.published.settings import context_length, sees, text_settings
from workers.onnx_worker.session import open_session
from workers.runtime.artefact import TOKENIZER_FILE, ModelDescription
from workers.runtime.checkpoint import CheckpointFolder, Settings
from workers.runtime.progress import Phase, Progress, Report
from workers.runtime.vision import VisionDescription


def prepare_published(source: Path, target: Path, *, precision: str, report: Report) -> ModelDescription:
    """Takes the graphs of one precision, and describes them.

    Args:
        source: The published folder: ``config.json``, ``tokenizer.json`` and ``onnx/*.onnx`` or ``*.onnx``.
        target: An existing, empty folder.
        precision: One of ``selection.PROFILES``.
        report: Told of every file.

    Returns:
        What was written as ``model.json``, the last of the files.

    Raises:
        UnsupportedModel: The folder holds no model that can be run; the message says why.
        OSError: A file can't be read or written.
    """
    files = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    checkpoint = CheckpointFolder(source)
    chosen = selection.select(files, precision, sees=sees(checkpoint))
    needed = [*chosen, *(data for graph in chosen for data in selection.data_files(files, graph))]
    for done, name in enumerate(needed):
        report(Progress(Phase.CONVERT, done, len(needed), name))
        _place(source / name, target / name)
    decoder = Decoder(open_session(target / chosen.decoder, threads=0, packed=False))
    checkpoint.tokenizer.backend.save(str(target / TOKENIZER_FILE), pretty=False)
    vision = _eyes(checkpoint, chosen.vision)
    description = _describe(checkpoint, decoder, precision, vision)
    seeing = chosen.vision if vision is not None else None
    Graphs(decoder=chosen.decoder, embedding=chosen.embedding, vision=seeing).save(target)
    description.save(target)
    return description


def _place(source: Path, target: Path) -> None:
    """A second name of the same file where the disk can do that, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _eyes(checkpoint: CheckpointFolder, graph: str | None) -> VisionDescription | None:
    """The eyes, where it is known how a picture becomes their pixels; other models serve text."""
    if graph is None or not sees(checkpoint):
        return None
    return VisionDescription.of_checkpoint(checkpoint.path)


def _describe(
    checkpoint: CheckpointFolder, decoder: Decoder, precision: str, vision: VisionDescription | None
) -> ModelDescription:
    text = text_settings(checkpoint.config)
    cache = decoder.cache
    heads = cache.heads or text.get("num_key_value_heads", int) or text.require("num_attention_heads", int)
    width = cache.head_dim or text.get("head_dim", int) or _head_width(text)
    ends = checkpoint.ends
    return ModelDescription(
        name=checkpoint.config.get("_name_or_path", str) or checkpoint.path.name,
        architecture=checkpoint.model_type,
        precision=precision,
        vocab_size=decoder.vocabulary or text.require("vocab_size", int),
        context_length=context_length(checkpoint.config),
        layers=cache.layers,
        kv_heads=heads,
        head_dim=width,
        hidden_size=text.require("hidden_size", int),
        bos_token_id=checkpoint.begin,
        eos_token_ids=ends,
        add_bos=checkpoint.adds_begin,
        bos_token=checkpoint.tokens.bos_token,
        eos_token=checkpoint.tokens.eos_token,
        chat_template=checkpoint.chat_template,
        vision=vision,
        kv_bytes_per_token=2 * cache.layers * heads * width * cache.dtype.itemsize,
    )


def _head_width(text: Settings) -> int:
    return text.require("hidden_size", int) // text.require("num_attention_heads", int)
