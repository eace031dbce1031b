"""The certificate of a prepared artefact: how far it is from the file that it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from diplex.errors import UnsupportedModel
from workers.onnx_worker.compiled.availability import code_for
from workers.onnx_worker.compiled.decoder import CompiledDecoder, Span
from workers.onnx_worker.published.graphs import GRAPHS_FILE
from workers.onnx_worker.seen import Seen
from workers.onnx_worker.session import BoundRun, open_session
from workers.runtime.artefact import MODEL_FILE, TOKENIZER_FILE, ModelDescription
from workers.runtime.cores import usable_cores
from workers.runtime.fidelity.certificate import Certificate, compare
from workers.runtime.fidelity.reference import Reference
from workers.runtime.fidelity.text import fixed_text
from workers.runtime.kv_cache import KVCache
from workers.runtime.progress import Phase, Progress, Report

CHUNK: Final = 128
"""Tokens a run, a length that engines use too."""


def certify(folder: Path, source: Path, report: Report) -> Certificate:
    """Compare a prepared artefact with its source over the fixed text, token by given token.

    A text longer than the model's context is cut there.

    Args:
        folder: The artefact.
        source: The file or folder it was converted from.
        report: Told of every chunk, in tokens.

    Returns:
        The certificate, which is not saved.

    Raises:
        UnsupportedModel: The artefact or the source can't be read.
    """
    description = ModelDescription.load(folder)
    if (folder / GRAPHS_FILE).is_file():
        raise UnsupportedModel(
            "the files are whole; graphs that run as they were published come without the float weights that "
            "their fidelity could be measured against"
        )
    text = fixed_text()
    encoding = Tokenizer.from_file(str(folder / TOKENIZER_FILE)).encode(
        text.content, add_special_tokens=False
    )
    token_ids = [*description.begin, *encoding.ids][: description.context_length]
    reference = Reference(source).logits(token_ids, chunk=CHUNK)
    candidate = _reported(artefact_logits(folder, description, token_ids), len(token_ids), report)
    return compare(reference, candidate, token_ids, text_sha256=text.sha256)


def artefact_logits(
    folder: Path, description: ModelDescription, token_ids: Sequence[int]
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the artefact's logits after every token: float32 ``[up to CHUNK, vocabulary]`` at a time.

    They are computed as an engine would on this machine. The array is overwritten by the next chunk.
    """
    if (code := code_for(folder)) is not None:
        return _compiled_logits(folder, code, description, token_ids)
    return _graph_logits(folder, description, token_ids)


def _compiled_logits(
    folder: Path, code: Path, description: ModelDescription, token_ids: Sequence[int]
) -> Iterator[npt.NDArray[np.float32]]:
    cache = KVCache(description, slots=1, max_length=len(token_ids))
    decoder = CompiledDecoder(folder, code, cache, slots=1, threads=usable_cores())
    logits = np.empty((CHUNK, decoder.logits_width), np.float32)
    try:
        for start in range(0, len(token_ids), CHUNK):
            chunk = token_ids[start : start + CHUNK]
            decoder.run([Span(0, start, chunk)], range(len(chunk)), logits[: len(chunk)])
            yield logits[: len(chunk), : description.vocab_size]
    finally:
        decoder.close()


def _graph_logits(
    folder: Path, description: ModelDescription, token_ids: Sequence[int]
) -> Iterator[npt.NDArray[np.float32]]:
    session = open_session(folder / MODEL_FILE, threads=0)
    cache = KVCache(description, slots=1, max_length=len(token_ids)).rows(0, 1)
    logits = np.empty((CHUNK, description.vocab_size), np.float32)
    for start in range(0, len(token_ids), CHUNK):
        chunk = token_ids[start : start + CHUNK]
        seen = None if description.vision is None else Seen.nothing(description.hidden_size)
        run = BoundRun(session, cache, (1, len(chunk)), logits[: len(chunk)], seen)
        run.input_ids[0] = chunk
        run.seqlens_k[0] = start + len(chunk) - 1
        run.logit_rows[:] = np.arange(len(chunk))
        yield run(total_length=start + len(chunk))


def _reported(
    chunks: Iterator[npt.NDArray[np.float32]], total: int, report: Report
) -> Iterator[npt.NDArray[np.float32]]:
    done = 0
    for chunk in chunks:
        done += len(chunk)
        report(Progress(Phase.VERIFY, done, total, "comparing with the source"))
        yield chunk
