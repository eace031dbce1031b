"""A model of the full size and shape of SmolVLM-256M with random weights, for measuring speed and memory.

    python -m benchmarks.vision.weights FOLDER

Writes what a hub would publish: 256.5 M parameters in bfloat16, settings, processor, and a tokenizer whose
words are bytes, beside as many tokens as the real one has.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

VOCABULARY = 49280
TILE, PATCH, SCALE = 512, 16, 4
ROWS = (TILE // PATCH // SCALE) ** 2
VISION, VISION_INNER, VISION_LAYERS = 768, 3072, 12
TEXT, TEXT_INNER, TEXT_LAYERS, HEADS, KV_HEADS, HEAD_DIM = 576, 1536, 30, 9, 3, 64
CONTEXT = 8192

_FIRST_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_LAST_SPECIAL = (
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
)
_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
_ROWS_AT_ONCE = 1 << 22
"""Numbers drawn at a time."""

Shape = tuple[int, ...]


def write(folder: Path) -> Path:
    """Write the checkpoint into ``folder``, which is made, unless it is there already; return ``folder``."""
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    tokens = _write_tokenizer(folder)
    _write_settings(folder, tokens)
    _write_tensors(folder / "model.safetensors")
    _write_json(folder / "config.json", _config(tokens))  # last: a folder that has it is whole
    return folder


def tensors() -> Iterator[tuple[str, Shape]]:
    """Names and shapes of all weights."""
    tower, text = "model.vision_model", "model.text_model"
    yield f"{tower}.embeddings.patch_embedding.weight", (VISION, 3, PATCH, PATCH)
    yield f"{tower}.embeddings.patch_embedding.bias", (VISION,)
    yield f"{tower}.embeddings.position_embedding.weight", ((TILE // PATCH) ** 2, VISION)
    for layer in range(VISION_LAYERS):
        prefix = f"{tower}.encoder.layers.{layer}"
        sizes = {f"self_attn.{part}_proj": (VISION, VISION) for part in ("q", "k", "v", "out")}
        sizes |= {"mlp.fc1": (VISION_INNER, VISION), "mlp.fc2": (VISION, VISION_INNER)}
        for name, (rows, columns) in sizes.items():
            yield f"{prefix}.{name}.weight", (rows, columns)
            yield f"{prefix}.{name}.bias", (rows,)
        for name in ("layer_norm1", "layer_norm2"):
            yield f"{prefix}.{name}.weight", (VISION,)
            yield f"{prefix}.{name}.bias", (VISION,)
    yield f"{tower}.post_layernorm.weight", (VISION,)
    yield f"{tower}.post_layernorm.bias", (VISION,)
    yield "model.connector.modality_projection.proj.weight", (TEXT, VISION * SCALE * SCALE)
    yield f"{text}.embed_tokens.weight", (VOCABULARY, TEXT)
    for layer in range(TEXT_LAYERS):
        prefix, keys = f"{text}.layers.{layer}", KV_HEADS * HEAD_DIM
        yield f"{prefix}.self_attn.q_proj.weight", (HEADS * HEAD_DIM, TEXT)
        yield f"{prefix}.self_attn.k_proj.weight", (keys, TEXT)
        yield f"{prefix}.self_attn.v_proj.weight", (keys, TEXT)
        yield f"{prefix}.self_attn.o_proj.weight", (TEXT, HEADS * HEAD_DIM)
        yield f"{prefix}.mlp.gate_proj.weight", (TEXT_INNER, TEXT)
        yield f"{prefix}.mlp.up_proj.weight", (TEXT_INNER, TEXT)
        yield f"{prefix}.mlp.down_proj.weight", (TEXT, TEXT_INNER)
        yield f"{prefix}.input_layernorm.weight", (TEXT,)
        yield f"{prefix}.post_attention_layernorm.weight", (TEXT,)
    yield f"{text}.norm.weight", (TEXT,)
    yield "lm_head.weight", (VOCABULARY, TEXT)


def _write_tensors(path: Path) -> None:
    header, start = {}, 0
    for name, shape in tensors():
        offsets = [start, start := start + 2 * int(np.prod(shape))]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": offsets}
    encoded = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name, shape in tensors():
            for values in _values(random, name, shape):
                file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())


def _values(random: np.random.Generator, name: str, shape: Shape) -> Iterator[npt.NDArray[np.float32]]:
    """Normal numbers that keep the size of what they multiply; norms around one."""
    count = int(np.prod(shape))
    spread = 0.1 if len(shape) == 1 else float(np.prod(shape[1:])) ** -0.5
    centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
    for start in range(0, count, _ROWS_AT_ONCE):
        drawn = random.standard_normal(min(_ROWS_AT_ONCE, count - start), np.float32)
        yield drawn * np.float32(spread) + np.float32(centre)


def _write_tokenizer(folder: Path) -> dict[str, int]:
    """Bytes as words, tokens that no text has up to the real vocabulary's size, and the special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*_FIRST_SPECIAL, *alphabet]
    words += [f"word{number}" for number in range(VOCABULARY - len(words) - len(_LAST_SPECIAL))]
    ids = {word: number for number, word in enumerate([*words, *_LAST_SPECIAL])}
    backend = tokenizers.Tokenizer(models.BPE(vocab=ids, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [AddedToken(token, special=True) for token in (*_FIRST_SPECIAL, *_LAST_SPECIAL)]
    )
    backend.save(str(folder / "tokenizer.json"))
    return ids


def _write_settings(folder: Path, ids: dict[str, int]) -> None:
    (folder / "chat_template.jinja").write_text(_TEMPLATE)
    end = ids["<end_of_utterance>"]
    generation = {"bos_token_id": ids["<|im_start|>"], "eos_token_id": end, "pad_token_id": ids["<|im_end|>"]}
    _write_json(folder / "generation_config.json", generation)
    _write_json(
        folder / "processor_config.json", {"image_seq_len": ROWS, "processor_class": "Idefics3Processor"}
    )
    images = {
        "image_processor_type": "Idefics3ImageProcessor", "processor_class": "Idefics3Processor",
        "do_convert_rgb": True, "do_image_splitting": True, "do_normalize": True, "do_pad": True,
        "do_rescale": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "max_image_size": {"longest_edge": TILE}, "resample": 1, "rescale_factor": 1 / 255,
        "size": {"longest_edge": 4 * TILE},
    }  # fmt: skip
    _write_json(folder / "preprocessor_config.json", images)
    tokens = {
        "tokenizer_class": "PreTrainedTokenizerFast", "processor_class": "Idefics3Processor",
        "bos_token": "<|im_start|>", "eos_token": "<end_of_utterance>", "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>", "additional_special_tokens": list(_LAST_SPECIAL),
        "model_max_length": CONTEXT, "clean_up_tokenization_spaces": False, "add_bos_token": False,
    }  # fmt: skip
    _write_json(folder / "tokenizer_config.json", tokens)


def _config(ids: dict[str, int]) -> dict[str, object]:
    special = {
        "bos_token_id": ids["<|im_start|>"], "eos_token_id": ids["<end_of_utterance>"],
        "pad_token_id": ids["<|im_end|>"],
    }  # fmt: skip
    text = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": VOCABULARY,
        "hidden_size": TEXT, "intermediate_size": TEXT_INNER, "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM,
        "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 100000.0,
        "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
        "tie_word_embeddings": False, **special,
    }  # fmt: skip
    vision = {
        "model_type": "idefics3_vision", "hidden_size": VISION, "intermediate_size": VISION_INNER,
        "num_hidden_layers": VISION_LAYERS, "num_attention_heads": 12, "num_channels": 3, "image_size": TILE,
        "patch_size": PATCH, "layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh",
        "max_image_size": {"longest_edge": TILE}, "size": {"longest_edge": 4 * TILE},
    }  # fmt: skip
    return {
        "architectures": ["Idefics3ForConditionalGeneration"], "model_type": "idefics3", "dtype": "bfloat16",
        "image_token_id": ids["<image>"], "scale_factor": SCALE, "tie_word_embeddings": False,
        "vocab_size": VOCABULARY, "use_cache": True, "text_config": text, "vision_config": vision, **special,
    }  # fmt: skip


def _write_json(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Write the checkpoint and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = write(parser.parse_args().folder)
    parameters = sum(int(np.prod(shape)) for _, shape in tensors())
    print(f"{folder}: {parameters / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main()
