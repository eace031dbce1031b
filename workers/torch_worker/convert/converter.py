"""A checkpoint as hubs publish it, or a GGUF file, becomes a prepared artefact."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import torch
from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from diplex.errors import UnsupportedModel
from workers.runtime.artefact import TOKENIZER_FILE, ModelDescription
from workers.runtime.progress import Phase, Progress, Report
from workers.runtime.vision import VisionDescription
from workers.torch_worker.architecture import model_class
from workers.torch_worker.convert.batching import can_batch
from workers.torch_worker.convert.describing import Words, describe
from workers.torch_worker.convert.quantising import Int8Config, Quantised
from workers.torch_worker.int8 import quantise_rows
from workers.torch_worker.precision import PROFILES, stored_dtype
from workers.torch_worker.siblings import group_name, linear_groups
from workers.torch_worker.weights import WeightWriter

_SEEING: Final = ("idefics3", "smolvlm")
"""Families whose pictures :mod:`workers.runtime.vision` prepares."""
_PREQUANTISED: Final = ("awq", "gptq")


def convert_checkpoint(source: Path, target: Path, *, profile: str, report: Report) -> ModelDescription:
    """Convert.

    Tensors are read, quantised and written one after the other; only a GGUF file is dequantised as a whole.

    Args:
        source: A folder with ``config.json``, safetensors and a tokenizer; or a GGUF file.
        target: An existing, empty folder.
        profile: One of :data:`~workers.torch_worker.precision.PROFILES`.
        report: Told of every tensor that is written.

    Returns:
        What was written as ``model.json``, the last of the files.

    Raises:
        UnsupportedModel: Transformers doesn't know the model, or it can't be held in this precision.
        OSError: A file can't be read or written.
    """
    if profile not in PROFILES:
        raise UnsupportedModel(f"precision {profile!r} is unknown; there are {', '.join(PROFILES)}")
    os.environ["HF_HUB_OFFLINE"] = "1"  # all files are there; nothing may be looked up
    os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"  # one tensor after the other, so that few are in memory
    disable_progress_bar()
    report(Progress(Phase.CONVERT, 0, None, "reading the configuration"))
    config = _config(source)
    words = Words.of_gguf(source) if source.is_file() else Words.of_folder(source)
    words.tokenizer.save(str(target / TOKENIZER_FILE), pretty=False)
    description = describe(config, words, profile, batched=can_batch(config), vision=_vision(source, config))
    quantised = Quantised()
    model = _loaded(source, config, profile, quantised)
    _write(model, target, profile, quantised, report)
    config.save_pretrained(target)
    description.save(target)
    return description


def _vision(source: Path, config: PretrainedConfig) -> VisionDescription | None:
    """The eyes, of families whose pictures can be prepared; the others are served as text models."""
    return VisionDescription.of_checkpoint(source) if config.model_type in _SEEING else None


def _config(source: Path) -> PretrainedConfig:
    try:
        if source.is_file():
            config = AutoConfig.from_pretrained(source.parent, gguf_file=source.name)
        else:
            config = AutoConfig.from_pretrained(source)
    except (ValueError, KeyError, OSError) as error:
        raise UnsupportedModel(f"transformers can't read {source.name}: {error}") from error
    assert isinstance(config, PretrainedConfig)  # noqa: S101  # its only other result is for unused values
    method = (getattr(config, "quantization_config", None) or {}).get("quant_method", "")
    if method in _PREQUANTISED:
        raise UnsupportedModel(
            f"{source.name} is quantised by {method.upper()}, whose kernels need CUDA and are not installed; "
            "take the checkpoint that it was made from, as int8"
        )
    return config


def _loaded(source: Path, config: PretrainedConfig, profile: str, quantised: Quantised) -> PreTrainedModel:
    """The model; in profile int8 without its matrices, which ``quantised`` holds then."""
    loader = model_class(config)
    dtype = stored_dtype(profile)
    if source.is_file():
        return loader.from_pretrained(source.parent, gguf_file=source.name, dtype=dtype)
    if profile != "int8":
        return loader.from_pretrained(source, dtype=dtype)
    with quantised.collecting():
        return loader.from_pretrained(source, dtype="auto", quantization_config=Int8Config())


def _write(model: PreTrainedModel, target: Path, profile: str, quantised: Quantised, report: Report) -> None:
    writer = WeightWriter(target)
    total = sum(1 for _ in model.named_parameters())
    done = 0

    def written(name: str) -> None:
        nonlocal done
        done += 1
        report(Progress(Phase.CONVERT, done, total, name))

    kept: set[str] = set()
    if profile == "int8":
        embedding = model.get_input_embeddings()
        head = model.get_output_embeddings()
        groups = list(linear_groups(model))
        if isinstance(head, nn.Linear) and head.weight is embedding.weight:
            kept.add(name := _name_of(model, head))
            groups.remove((name,))
        if _is_plain_embedding(embedding):
            groups.append((_name_of(model, embedding),))
        for group in groups:
            _write_rows(model, group, quantised, writer)
            kept.update(group)
            written(group_name(group))
    dtype = stored_dtype(profile)
    for name, tensor in _distinct(model.state_dict()):
        if name.rpartition(".")[0] not in kept:
            writer.add(name, tensor.to(dtype) if tensor.is_floating_point() else tensor)
            written(name)
    writer.flush()


def _write_rows(
    model: PreTrainedModel, group: tuple[str, ...], quantised: Quantised, writer: WeightWriter
) -> None:
    """Writes the matrices of a group as one of integers, and lets go of them."""
    weights, scales, biases = [], [], []
    for name in group:
        module = model.get_submodule(name)
        rows = quantised.take(f"{name}.weight")
        if rows is None:
            assert isinstance(module.weight, torch.Tensor)  # noqa: S101  # of a linear layer or an embedding
            rows = quantise_rows(module.weight)
            module.weight = nn.Parameter(torch.empty(0), requires_grad=False)
        weights.append(rows[0])
        scales.append(rows[1])
        if isinstance(bias := getattr(module, "bias", None), torch.Tensor):
            biases.append(bias.float())
    name = group_name(group)
    writer.add(f"{name}.weight", torch.cat(weights))
    writer.add(f"{name}.weight_scale", torch.cat(scales))
    if biases:
        writer.add(f"{name}.bias", torch.cat(biases))


def _is_plain_embedding(module: nn.Module) -> bool:
    """Whether it does no more than to look rows up, and to multiply all of them by one number."""
    return type(module) is nn.Embedding or hasattr(module, "scalar_embed_scale")


def _distinct(tensors: dict[str, torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
    """Tensors by name, those that share memory with an earlier one left out."""
    seen: set[tuple[int, torch.Size]] = set()
    distinct = []
    for name, tensor in tensors.items():
        key = (tensor.data_ptr(), tensor.shape)
        if tensor.device.type != "meta" and (key not in seen or not tensor.numel()):
            seen.add(key)
            distinct.append((name, tensor))
    return distinct


def _name_of(model: nn.Module, wanted: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is wanted)
