"""From a prepared artefact to something that runs.

The model is built without memory for its weights; these then become views of the mapped files, so that a load
takes no longer than reading them and no more memory than they have.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from diplex.errors import UnsupportedModel
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.vision.grid import GRID
from workers.torch_worker.architecture import attention_by_part, is_foreign, model_class, text_part
from workers.torch_worker.decoding_layers import shorten_layers
from workers.torch_worker.eyes import TorchEyes
from workers.torch_worker.inputs import Inputs
from workers.torch_worker.int8 import Int8Matrix, Int8Rows, Sibling, Siblings
from workers.torch_worker.norms import replace_norms
from workers.torch_worker.precision import activation_dtype
from workers.torch_worker.publisher_code import needs_code, require_permission
from workers.torch_worker.rotary_positions import RotaryPositions
from workers.torch_worker.row_runner import RowRunner
from workers.torch_worker.runner import Runner
from workers.torch_worker.shape import Shape
from workers.torch_worker.siblings import group_name, linear_groups
from workers.torch_worker.slot_attention import SlotAttention
from workers.torch_worker.slot_cache import SlotCache
from workers.torch_worker.slot_memory import DeviceSlots, MappedSlots, SlotMemory
from workers.torch_worker.slot_runner import SlotRunner
from workers.torch_worker.torchao_linear import int8_linear, quantise_int4, require_torchao
from workers.torch_worker.weights import mapped_weights

_META: Final = torch.device("meta")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready to run."""

    runner: Runner
    eyes: TorchEyes | None
    """``None`` for one that takes text only."""


def load(
    description: ModelDescription, config: EngineConfig, max_length: int, device: torch.device
) -> Loaded:
    """Loads a prepared artefact.

    Args:
        description: The model.
        config: Its folder, and how many slots.
        max_length: Tokens that a slot must hold.
        device: Where it is to compute.

    Raises:
        UnsupportedModel: The artefact doesn't hold this model, or the device can't compute its precision.
    """
    dtype = activation_dtype(description.precision, device)
    if device.type != "cpu" and description.precision in {"int8", "int4"}:
        require_torchao(description.precision)
    memory = _slots(description, config.rows, max_length, dtype, device) if description.batched else None
    cache = None if memory is None else SlotCache(memory)
    slots = None if cache is None else SlotAttention(cache)
    attention = "sdpa" if slots is None else slots.register()
    require_permission(config.folder, allowed=config.code_allowed)
    model = _model(config.folder, description.precision, dtype, device, attention)
    eyes = None if description.vision is None else TorchEyes(model, description, device, dtype)
    inputs, head = Inputs(model.get_input_embeddings(), eyes), _head(model)
    gridded = description.vision is not None and description.vision.fit == GRID
    if cache is None or memory is None or slots is None:
        if gridded:
            raise UnsupportedModel(
                f"{description.architecture} has positions in several dimensions, for which it needs slots"
            )
        return Loaded(RowRunner(text_part(model), head, inputs, config.rows, device), eyes)
    if device.type == "cpu":
        shorten_layers(model, slots, cache, memory)
    runner = SlotRunner(
        model=text_part(model),
        head=head,
        inputs=inputs,
        cache=cache,
        memory=memory,
        device=device,
        mutual=description.vision is not None and description.vision.mutual,
        positions=RotaryPositions(config.rows, max_length, eyes.place, device) if eyes and gridded else None,
    )
    return Loaded(runner, eyes)


def _slots(
    description: ModelDescription, slots: int, max_length: int, dtype: torch.dtype, device: torch.device
) -> SlotMemory:
    if device.type == "cpu":
        return MappedSlots(description, slots=slots, max_length=max_length, dtype=dtype)
    shape = Shape(description.layers, description.kv_heads, description.head_dim)
    return DeviceSlots(shape, slots=slots, max_length=max_length, dtype=dtype, device=device)


def _head(model: PreTrainedModel) -> nn.Module:
    head = model.get_output_embeddings()
    if head is None:
        raise UnsupportedModel(f"{type(model).__name__} has no head that makes logits")
    assert isinstance(head, nn.Module)  # noqa: S101  # transformers promises it
    return head


def _model(
    folder: Path, precision: str, dtype: torch.dtype, device: torch.device, attention: str
) -> PreTrainedModel:
    """The model with its weights; those on the CPU are views of the files."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=needs_code(folder))
    with no_init_weights(), init_empty_weights(include_buffers=False):
        model: PreTrainedModel = model_class(config).from_config(
            config,
            dtype=dtype,
            attn_implementation=attention_by_part(config, attention),
            trust_remote_code=is_foreign(config),
        )
    _fill(model, dict(mapped_weights(folder)), dtype, device)
    missing = [name for name, tensor in model.named_parameters() if tensor.device == _META]
    if missing:
        raise UnsupportedModel(
            f"{folder} lacks {len(missing)} tensors, as {missing[0]}: prepare the model again"
        )
    nn.Module.to(model, device)  # what the class makes of it knows no device
    if precision == "int4":
        for layer in [module for module in model.modules() if isinstance(module, nn.Linear)]:
            if layer is not model.get_output_embeddings():
                quantise_int4(layer)
    if device.type == "cpu":
        replace_norms(model)
    return model.eval()


def _fill(
    model: PreTrainedModel, tensors: dict[str, torch.Tensor], dtype: torch.dtype, device: torch.device
) -> None:
    """Gives a model its tensors: integers in the places of its linear layers, the others as they are."""
    products = _Products(dtype, device)
    decoder = _name_of(model, model.get_decoder())
    head = model.get_output_embeddings()
    for group in list(linear_groups(model)):
        fine = group[0].startswith(decoder) or model.get_submodule(group[0]) is head
        _fill_linear(model, group, tensors, products, fine=fine)
    embedding = model.get_input_embeddings()
    embedding_name = _name_of(model, embedding)
    if f"{embedding_name}.weight_scale" in tensors:
        weight, scale = (tensors.pop(f"{embedding_name}.{part}") for part in ("weight", "weight_scale"))
        factor = getattr(embedding, "scalar_embed_scale", 1.0)
        model.set_submodule(embedding_name, Int8Rows(weight, scale, factor, dtype))
        head = model.get_output_embeddings()
        if isinstance(head, nn.Linear) and head.weight.device == _META:  # it has no rows of its own
            model.set_submodule(_name_of(model, head), products.of(weight, scale, None, fine=True))
    for name, tensor in tensors.items():
        parent, _, last = name.rpartition(".")
        module = model.get_submodule(parent)
        value = tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)
        if last in module._buffers:  # noqa: SLF001  # no other way to assign one without a copy
            module._buffers[last] = value  # noqa: SLF001
        else:
            module._parameters[last] = nn.Parameter(value, requires_grad=False)  # noqa: SLF001
    model.tie_weights()


class _Products:
    """Makes the modules that multiply by int8 rows, as the device wants them."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype = dtype
        self._device = device

    def of(
        self, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None, *, fine: bool
    ) -> nn.Module:
        if self._device.type == "cpu":
            return Int8Matrix(weight, scale, bias, fine=fine)
        return int8_linear(weight, scale, bias, dtype=self._dtype, device=self._device)


def _fill_linear(
    model: PreTrainedModel,
    group: tuple[str, ...],
    tensors: dict[str, torch.Tensor],
    products: _Products,
    *,
    fine: bool,
) -> None:
    name = group_name(group)
    scale = tensors.pop(f"{name}.weight_scale", None)
    if scale is None:
        return
    sizes = tuple(_linear(model, member).out_features for member in group)
    matrix = products.of(tensors.pop(f"{name}.weight"), scale, tensors.pop(f"{name}.bias", None), fine=fine)
    if len(group) == 1:
        model.set_submodule(group[0], matrix)
        return
    siblings = Siblings(matrix, sizes)
    for index, member in enumerate(group):
        model.set_submodule(member, Sibling(siblings, index))


def _linear(model: PreTrainedModel, name: str) -> nn.Linear:
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear)  # noqa: S101  # it was found as one
    return module


def _name_of(model: nn.Module, wanted: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is wanted)
