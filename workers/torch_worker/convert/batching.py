"""Whether an architecture can decode rows of different lengths in one run."""

from __future__ import annotations

import copy
import inspect

import torch
from transformers import PretrainedConfig
from transformers.initialization import no_init_weights

from workers.torch_worker.architecture import attention_by_part, is_foreign, model_class, text_part
from workers.torch_worker.shape import Shape
from workers.torch_worker.slot_attention import SlotAttention
from workers.torch_worker.slot_cache import SlotCache, Step
from workers.torch_worker.slot_memory import DeviceSlots
from workers.torch_worker.span import Span

_META = torch.device("meta")
_TRIED = (
    (Span(0, 3, (1,), 1), Span(1, 5, (1,), 1)),
    (Span(0, 3, (1, 1), 1),),  # behind others, for which some architectures make masks of their own
)


def can_batch(config: PretrainedConfig) -> bool:
    """Tries it without weights: every layer must use the common attention, the cache and given positions."""
    shape = Shape.of(config)
    if shape is None:
        return False
    try:
        return _tried(copy.deepcopy(config), shape)
    except Exception:  # noqa: BLE001  # whatever an architecture stumbles over, it goes the plain path
        return False


def _tried(config: PretrainedConfig, shape: Shape) -> bool:
    memory = DeviceSlots(shape, slots=2, max_length=8, dtype=torch.float32, device=_META)
    memory.reserve(0, 8)
    cache = SlotCache(memory)
    attention = _Counted(cache)
    name = attention.register()
    with no_init_weights(), _META:
        model = model_class(config).from_config(
            config,
            dtype=torch.float32,
            attn_implementation=attention_by_part(config, name),
            trust_remote_code=is_foreign(config),
        )
    model = text_part(model)
    decoder = model.get_decoder()
    if "position_ids" not in inspect.signature(decoder.forward).parameters:
        return False
    for spans in _TRIED:
        cache.step = Step(spans, _META)
        ids = torch.zeros((len(spans), cache.step.width), dtype=torch.int64, device=_META)
        with torch.inference_mode():
            model(input_ids=ids, position_ids=cache.step.positions, cache=cache, use_cache=True)
    return cache.updates == attention.calls == shape.layers * len(_TRIED)


class _Counted(SlotAttention):
    calls = 0

    def __call__(self, *arguments: object, **options: object) -> tuple[torch.Tensor, None]:
        self.calls += 1
        return super().__call__(*arguments, **options)  # type: ignore[arg-type]  # handed on as they came
