"""Which of the graphs in a published folder make a model of a given precision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from diplex.errors import UnsupportedModel

_FOLDER: Final = "onnx/"
DECODER: Final = "decoder"
EMBEDDING: Final = "embed_tokens"
VISION: Final = "vision_encoder"

_DECODERS: Final = ("decoder_model_merged", "model_merged", "decoder_with_past_model_merged", "model")
"""Names of graphs that decode, the preferred first. A graph that looks tokens up by itself is a ``model``."""
_EIGHT_BITS: Final = ("_int8", "_quantized")
_ANY: Final = ("", "_fp16", "_quantized", "_int8")
"""Of a component that a precision doesn't ask anything of."""
_PROFILES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "fp32": dict.fromkeys((DECODER, EMBEDDING, VISION), ("",)),
    "fp16": dict.fromkeys((DECODER, EMBEDDING, VISION), ("_fp16",)),
    "int8": dict.fromkeys((DECODER, EMBEDDING, VISION), _EIGHT_BITS),
    "q4": dict.fromkeys((DECODER, EMBEDDING, VISION), ("_q4",)),
    "q4f16": dict.fromkeys((DECODER, EMBEDDING, VISION), ("_q4f16",)),
    "q4_mixed": {DECODER: ("_q4",), EMBEDDING: (*_EIGHT_BITS, *_ANY), VISION: _ANY},
}
"""Profile -> component -> ends of file names, the preferred first.

``q4_mixed`` has a precision a component: four bits where most weights are, eight for the embedding, floats
for the eyes.
"""
PROFILES: Final = tuple(_PROFILES)


@dataclass(frozen=True, slots=True)
class Selection:
    """The graphs of a model, each the path of a file below its folder."""

    decoder: str
    embedding: str | None
    """``None`` if the decoder looks tokens up by itself."""
    vision: str | None

    def __iter__(self) -> Iterator[str]:
        """The files of those that there are."""
        return (path for path in (self.decoder, self.embedding, self.vision) if path is not None)


def select(files: Iterable[str], profile: str, *, sees: bool = True) -> Selection:
    """The graphs for a profile.

    Args:
        files: Paths of all files below the folder, with forward slashes.
        profile: One of ``PROFILES``.
        sees: Whether the eyes are used; if not, it doesn't matter which there are.

    Raises:
        UnsupportedModel: There is no such profile, or the folder lacks a graph for it.
    """
    if profile not in _PROFILES:
        raise UnsupportedModel(
            f"precision {profile!r} is unknown; published graphs have {', '.join(PROFILES)}"
        )
    graphs = {path.removeprefix(_FOLDER): path for path in files if path.endswith(".onnx")}
    ends = _PROFILES[profile]
    decoder = _find(graphs, _DECODERS, ends[DECODER])
    if decoder is None:
        raise UnsupportedModel(_lacking(graphs, _DECODERS[0], profile))
    embedding = _find(graphs, (EMBEDDING,), ends[EMBEDDING])
    vision = _find(graphs, (VISION,), ends[VISION]) if sees else None
    wanted = ((EMBEDDING, embedding), (VISION, vision)) if sees else ((EMBEDDING, embedding),)
    for component, found in wanted:
        if found is None and any(name.startswith(component) for name in graphs):
            raise UnsupportedModel(_lacking(graphs, component, profile))
    return Selection(decoder, embedding, vision)


def _find(graphs: Mapping[str, str], names: Iterable[str], ends: Iterable[str]) -> str | None:
    wanted = [f"{name}{end}.onnx" for end in ends for name in names]
    return next((graphs[name] for name in wanted if name in graphs), None)


def _lacking(graphs: Iterable[str], component: str, profile: str) -> str:
    there = ", ".join(sorted(graphs)) or "no graphs at all"
    return f"no {component} for precision {profile!r} among {there}; ask for another precision"


def data_files(files: Iterable[str], graph: str) -> list[str]:
    """The files beside a graph that may hold its weights, as publishers name them."""
    stem = graph.removesuffix(".onnx")
    return sorted(
        path
        for path in files
        if path.startswith((f"{graph}_data", f"{graph}.data", f"{stem}.onnx_data", f"{stem}.data"))
    )
