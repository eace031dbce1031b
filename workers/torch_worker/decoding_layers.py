"""Decoder layers of the common form in a third of their operations, where each row takes in one token.

An operation on one token takes microseconds, and the way to it through a model's modules as many; between two
of them the threads fall asleep. So what a layer computes is written down here once more, without anything
between. Which layers are of that form (Llama's, which Mistral, Qwen 2 and others share) is found out: a layer
computes this way only if its code uses nothing that Llama's doesn't, and if it gives the same when tried.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.llama import modeling_llama

from workers.torch_worker.int8 import Int8Matrix, Sibling
from workers.torch_worker.slot_attention import SlotAttention
from workers.torch_worker.slot_cache import SlotCache, Step
from workers.torch_worker.slot_memory import SlotMemory
from workers.torch_worker.span import Span

_TRIED_AT: Final = (3, 4)
"""Places of the tokens that a layer is tried with: the second looks at the first."""
_TOLERANCE: Final = 1e-3
"""Of the largest value: an input that lies between two integers may be rounded either way."""


class Angles:
    """The rotary embedding of a run's tokens, made ready by the first layer for all.

    Rotating ``x`` by half its width is ``x * cos + swapped(x) * sines``, where ``swapped`` exchanges the
    halves, and ``sines`` are negative in the first.
    """

    def __init__(self) -> None:
        self._of: torch.Tensor | None = None
        self._sines: torch.Tensor | None = None

    def sines(self, sin: torch.Tensor) -> torch.Tensor:
        """What the swapped halves are multiplied with, of the same shape as ``sin``."""
        if self._sines is None or sin is not self._of:
            low, high = sin.chunk(2, dim=-1)
            self._of, self._sines = sin, torch.cat((-low, high), dim=-1)
        return self._sines


class DecodingLayer:
    """Computes what a layer does, for one token a row; for more, has the layer do it.

    Args:
        layer: With its weights in :class:`Int8Matrix`; see :func:`shorten_layers`.
        cache: Knows the run, and has the keys and values.
        angles: Shared by all layers.
    """

    def __init__(self, layer: Any, cache: SlotCache, angles: Angles) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._whole = layer.forward
        self._cache = cache
        self._angles = angles
        self._number: int = attention.layer_idx
        self._scale: float = attention.scaling
        self._size: int = attention.head_dim
        self._norms = layer.input_layernorm, layer.post_attention_layernorm
        self._qkv, self._gate_up = attention.q_proj.siblings.matrix, mlp.gate_proj.siblings.matrix
        self._out, self._down, self._activation = attention.o_proj, mlp.down_proj, mlp.act_fn
        self._kv_heads = attention.k_proj.outputs // self._size
        self._heads = attention.q_proj.outputs // self._size

    def __call__(self, hidden_states: torch.Tensor, *arguments: Any, **given: Any) -> Any:
        """Float32 ``[rows, width, hidden]`` to the same, as the layer."""
        step = self._cache.step
        rotation = given.get("position_embeddings")
        if step is None or step.width > 1 or rotation is None or rotation[0].shape[-1] != self._size:
            return self._whole(hidden_states, *arguments, **given)
        return self.decoded(hidden_states, step, rotation)

    def decoded(
        self, states: torch.Tensor, step: Step, rotation: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """One token a row.

        Args:
            states: Float32 ``[rows, 1, hidden]``.
            step: The run.
            rotation: Cosines and sines, ``[rows, 1, head_dim]`` each.
        """
        before_attention, before_mlp = self._norms
        heads = self._qkv(before_attention(states)).view(len(states), -1, self._size)
        states = self._out(self._attended(heads, step, rotation)).add_(states)
        gate, up = self._gate_up(before_mlp(states)).chunk(2, dim=-1)
        return self._down(self._activation(gate).mul_(up)).add_(states)

    def _attended(
        self, heads: torch.Tensor, step: Step, rotation: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """``[rows, heads of queries, keys and values, head_dim]`` to ``[rows, 1, heads * head_dim]``."""
        cos, sin = rotation
        turned, values = heads.split_with_sizes((self._heads + self._kv_heads, self._kv_heads), dim=1)
        swapped = torch.roll(turned, self._size // 2, -1)
        turned = torch.mul(turned, cos).add_(swapped.mul_(self._angles.sines(sin)))
        queries, keys = turned.split_with_sizes((self._heads, self._kv_heads), dim=1)
        keys, values = self._cache.update(keys[:, :, None], values[:, :, None], self._number)
        # All heads of a group see the same keys: they stand where several tokens would.
        queries = queries.reshape(len(heads), self._kv_heads, -1, self._size)
        attended = scaled_dot_product_attention(
            queries, keys, values, attn_mask=step.mask(None), scale=self._scale
        )
        return attended.reshape(len(heads), 1, -1)


def shorten_layers(model: nn.Module, attention: SlotAttention, cache: SlotCache, memory: SlotMemory) -> int:
    """Has all layers that can compute single tokens this way; returns how many.

    Args:
        model: With its weights, on the CPU.
        attention: What it is built with.
        cache: What it will be run with.
        memory: Where the cache lies; nothing of use is in its first slots yet.
    """
    angles, shortened = Angles(), 0
    for layer in _of_the_form(model):
        short = DecodingLayer(layer, cache, angles)
        expected = _tried(layer.forward, layer, cache, memory)
        plain = attention.plain and isinstance(expected, torch.Tensor)
        if plain and _same(_tried(short, layer, cache, memory), expected):
            layer.forward = short
            shortened += 1
    return shortened


def _of_the_form(model: nn.Module) -> Iterator[Any]:
    modules: Iterator[Any] = model.modules()
    for layer in modules:
        if _LAYER.has(layer) and _ATTENTION.has(layer.self_attn) and _MLP.has(layer.mlp):
            attention, mlp = layer.self_attn, layer.mlp
            merged = all(isinstance(it, Sibling) for it in (attention.q_proj, mlp.gate_proj))
            integers = all(isinstance(it, Int8Matrix) for it in (attention.o_proj, mlp.down_proj))
            if merged and integers and all(hasattr(attention, name) for name in _ASKED):
                yield layer


class _Form:
    """What modules have in common that compute what Llama's does.

    Args:
        like: The class of Llama's.
        children: Names of the modules in it.
    """

    def __init__(self, like: type[nn.Module], *children: str) -> None:
        self._children = set(children)
        self._names = _names(like) | _HARMLESS

    def has(self, module: Any) -> bool:
        """Whether a module has these parts, no weights of its own, and code that uses no other names."""
        return (
            isinstance(module, nn.Module)
            and {name for name, _ in module.named_children()} == self._children
            and next(module.parameters(recurse=False), None) is None
            and _names(type(module)) <= self._names
        )


def _names(kind: type[nn.Module]) -> set[str]:
    """What the code of a module's ``forward`` names: attributes, functions, methods."""
    code = getattr(inspect.unwrap(kind.forward), "__code__", None)
    return set(code.co_names) if code else {"?"}


_ASKED: Final = ("layer_idx", "scaling", "head_dim")
"""What an attention is asked for."""
_HARMLESS: Final = {"sliding_window", "getattr"}
"""Names of what :class:`SlotAttention` is told, and so knows."""
_LAYER: Final = _Form(
    modeling_llama.LlamaDecoderLayer, "self_attn", "mlp", "input_layernorm", "post_attention_layernorm"
)
_ATTENTION: Final = _Form(modeling_llama.LlamaAttention, "q_proj", "k_proj", "v_proj", "o_proj")
_MLP: Final = _Form(modeling_llama.LlamaMLP, "gate_proj", "up_proj", "down_proj", "act_fn")


@torch.inference_mode()
def _tried(compute: Callable[..., Any], layer: Any, cache: SlotCache, memory: SlotMemory) -> Any:
    """What a layer gives for the second token of two rows of different lengths, if there are two slots."""
    slots = range(min(2, len(memory.layer(0)[0])))
    width = layer.self_attn.q_proj.siblings.matrix.weight.shape[1]
    generator = torch.Generator().manual_seed(0)
    out = None
    for place in _TRIED_AT:
        state = torch.randn((len(slots), 1, width), generator=generator)
        angle = torch.rand((len(slots), 1, layer.self_attn.head_dim // 2), generator=generator)
        angle = torch.cat((angle, angle), dim=-1)
        spans = [Span(slot, place + slot, (0,), 1) for slot in slots]
        for span in spans:
            memory.reserve(span.slot, span.end)
        cache.step = Step(spans, torch.device("cpu"))
        out = compute(state, position_embeddings=(angle.cos(), angle.sin()), cache=cache)
    for slot in slots:
        memory.release(slot, 0)
    cache.step = None
    return out


def _same(got: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((got - expected).abs().max() <= _TOLERANCE * expected.abs().max())
