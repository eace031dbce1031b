"""How a model wants to be sampled, and what ends its answers: ``generation_config.json``."""

from __future__ import annotations

from dataclasses import dataclass

from workers.runtime.catalogue.entries import SamplingDefaults
from workers.runtime.checkpoint.settings import Settings


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """What the file says, and ``config.json`` where it says nothing."""

    sampling: SamplingDefaults
    """For fields that a request leaves unset; values that would change nothing are left out."""
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    """May be empty; may name a token twice."""

    @classmethod
    def of(cls, settings: Settings, config: Settings) -> GenerationSettings:
        """Take what is understood; what isn't, as beams, is how others would search and no part of the model.

        Args:
            settings: ``generation_config.json``.
            config: ``config.json``.

        Raises:
            UnsupportedModel: A value has the wrong type.
        """
        begin = settings.numbers("bos_token_id") or config.numbers("bos_token_id")
        return cls(
            sampling=_sampling(settings),
            bos_token_id=begin[0] if begin else None,
            eos_token_ids=(*settings.numbers("eos_token_id"), *config.numbers("eos_token_id")),
        )


def _sampling(settings: Settings) -> SamplingDefaults:
    if settings.get("do_sample", bool) is False:
        return SamplingDefaults(temperature=0.0, repetition_penalty=_penalty(settings))
    top_k, top_p = settings.get("top_k", int), settings.get("top_p", float)
    temperature, min_p = settings.get("temperature", float), settings.get("min_p", float)
    return SamplingDefaults(
        temperature=temperature if temperature is not None and temperature >= 0 else None,
        top_k=top_k if top_k is not None and top_k >= 1 else None,
        top_p=top_p if top_p is not None and 0 < top_p < 1 else None,
        min_p=min_p if min_p is not None and 0 < min_p <= 1 else None,
        repetition_penalty=_penalty(settings),
    )


def _penalty(settings: Settings) -> float | None:
    penalty = settings.get("repetition_penalty", float)
    return penalty if penalty is not None and penalty > 0 and penalty != 1 else None
