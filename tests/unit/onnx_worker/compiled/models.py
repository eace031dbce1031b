"""Tiny models of integer rows, and steps over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fixtures import tiny_checkpoint, tiny_eyes, tiny_family
from workers.onnx_worker.backend import OnnxBackend
from workers.onnx_worker.compiled.backend import CompiledBackend
from workers.onnx_worker.convert import convert_checkpoint, convert_gguf
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.plan import Chunk, Row, StagedChunk, StepPlan
from workers.runtime.progress import silent

MODELS = ("llama", "mistral", "far", "qwen2", "qwen3", "phi3", "phi3-long", "deep")
"""Families as the fixtures have them, and two more: ``far`` has a window of more than a segment; ``deep`` has
two layers a stage, six queries a key, 32 neighbours that are mixed instead of 64, and a vocabulary that is a
multiple of 32, as the fixtures' 294 tokens are not."""
SEEING = "eyes"
UNFIT = "unfit"
"""Its feed-forward width is no multiple of 32."""
CONTEXT = 512
FURTHER = {
    "far": {"llama.attention.sliding_window": 280},
    "phi3-long": {"phi3.rope.scaling.original_context_length": CONTEXT},
}
"""Settings of some models."""


class Artefacts:
    """See the fixture."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> Path:
        target = self._folder / name
        if not target.exists():
            target.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                _convert(name, self._folder / f"{name}-source", target, patch)
        return target


def _convert(name: str, source: Path, target: Path, patch: pytest.MonkeyPatch) -> None:
    if name == SEEING:
        source.mkdir()
        convert_checkpoint(tiny_eyes.write_tiny_eyes(source), target, precision="int8", report=silent)
    elif name in {"deep", UNFIT}:
        further = {"num_hidden_layers": 12, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 320}
        patch.setattr(tiny_checkpoint, "HEADS", 6)
        patch.setattr(tiny_checkpoint, "FEED_FORWARD", 96 if name == "deep" else 80)
        tiny_checkpoint.write_checkpoint(source, "llama", further=further)
        convert_checkpoint(source, target, precision="int8", report=silent)
    else:
        family = "mistral" if name == "far" else name
        tiny_family.write_tiny(source, family, further=FURTHER.get(name, {}))
        convert_gguf(source, target, precision="int8", report=silent)


def config(folder, **settings):
    return EngineConfig(folder, **{"slots": 17, "cache_slots": 1, "max_length": CONTEXT, **settings})


def compiled(folder, code, **settings):
    return CompiledBackend(ModelDescription.load(folder), config(folder, **settings), code)


def by_onnx(folder, **settings):
    return OnnxBackend(ModelDescription.load(folder), config(folder, **settings))


def text(length, seed=0):
    return tuple(np.random.default_rng(seed).integers(10, 280, length).tolist())


def chunk(slot, tokens, start=0, *, last=True):
    return Chunk(slot, slot, start, tuple(tokens), last=last)


def step(backend, **parts):
    """Logits of a step, which the next one doesn't write over."""
    return backend.forward(StepPlan(**parts)).logits.copy()


def take_in(backend, *chunks):
    return step(backend, chunks=chunks)


def staged(backend, piece, counts, **parts):
    """Logits behind a piece that is computed in as many steps as there are counts of stages."""
    first, logits = 0, []
    for count in counts:
        now = StagedChunk(piece, first, count, backend.stages)
        logits.append(step(backend, staged=now, **parts))
        first += count
    assert first == backend.stages
    return logits[-1]


def decode(backend, *rows):
    """Rows ``(past, token, *drafts)`` of slots 0, 1, …."""
    return step(
        backend,
        rows=tuple(Row(slot, past, token, tuple(drafts)) for slot, (past, token, *drafts) in enumerate(rows)),
    )
