"""The certificate of a prepared artefact: how far it is from the file that it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from tokenizers import Tokenizer

from workers.runtime.artefact import MODEL_FILE, TOKENIZER_FILE, ModelDescription
from workers.runtime.fidelity.certificate import Certificate, compare
from workers.runtime.fidelity.reference import LlamaReference
from workers.runtime.fidelity.text import fixed_text
from workers.runtime.progress import Phase, Progress, Report

CHUNK: Final = 128
"""Tokens a run, a length that engines use too."""


def certify(folder: Path, gguf: Path, report: Report) -> Certificate:
    """Compare a prepared artefact with its source over the fixed text, token by given token.

    A text longer than the model's context is cut there.

    Args:
        folder: The artefact.
        gguf: The file it was converted from.
        report: Told of every chunk, in tokens.

    Returns:
        The certificate, which is not saved.

    Raises:
        UnsupportedModel: The artefact or the source can't be read.
    """
    description = ModelDescription.load(folder)
    text = fixed_text()
    encoding = Tokenizer.from_file(str(folder / TOKENIZER_FILE)).encode(
        text.content, add_special_tokens=False
    )
    token_ids = encoding.ids[: description.context_length]
    reference = LlamaReference(gguf).logits(token_ids, chunk=CHUNK)
    candidate = _reported(artefact_logits(folder, description, token_ids), len(token_ids), report)
    return compare(reference, candidate, token_ids, text_sha256=text.sha256)


def artefact_logits(
    folder: Path, description: ModelDescription, token_ids: Sequence[int]
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the artefact's logits after every token: float32 ``[up to CHUNK, vocabulary]`` at a time.

    The array is overwritten by the next chunk.
    """
    session = ort.InferenceSession(str(folder / MODEL_FILE), providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    caches = _bind_caches(binding, description, len(token_ids))
    logits = np.empty((CHUNK, description.vocab_size), dtype=np.float32)
    for start in range(0, len(token_ids), CHUNK):
        chunk = np.asarray(token_ids[start : start + CHUNK], dtype=np.int64)[None]
        rows, total = chunk.shape[1], start + chunk.shape[1]
        binding.bind_cpu_input("input_ids", chunk)
        binding.bind_cpu_input("seqlens_k", np.array([total - 1], dtype=np.int32))
        binding.bind_cpu_input("total_sequence_length", np.array(total, dtype=np.int32))
        binding.bind_cpu_input("logit_rows", np.arange(rows, dtype=np.int64))
        binding.bind_ortvalue_output("logits", ort.OrtValue.ortvalue_from_numpy(logits[:rows]))
        session.run_with_iobinding(binding)
        yield logits[:rows]
    del caches  # not before: the binding only points into it


def _bind_caches(binding: Any, description: ModelDescription, length: int) -> npt.NDArray[np.float32]:
    """Bind every cache for input and output at once, and return the array they lie in.

    Neither a binding nor its values keep that array alive, so the caller must.
    """
    halves = [f"{layer}.{half}" for layer in range(description.layers) for half in ("key", "value")]
    caches = np.zeros((len(halves), 1, description.kv_heads, length, description.head_dim), dtype=np.float32)
    for half, cache in zip(halves, caches, strict=True):
        value = ort.OrtValue.ortvalue_from_numpy(cache)
        binding.bind_ortvalue_input(f"past_key_values.{half}", value)
        binding.bind_ortvalue_output(f"present.{half}", value)
    return caches


def _reported(
    chunks: Iterator[npt.NDArray[np.float32]], total: int, report: Report
) -> Iterator[npt.NDArray[np.float32]]:
    done = 0
    for chunk in chunks:
        done += len(chunk)
        report(Progress(Phase.VERIFY, done, total, "comparing with the source"))
        yield chunk
