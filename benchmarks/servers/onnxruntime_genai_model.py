"""Makes onnxruntime-genai's model of a GGUF file, by that library's own builder.

    python -m benchmarks.servers.onnxruntime_genai_model GGUF FOLDER [PRECISION …]

Runs in the library's own environment, with torch and transformers in it: the builder reads GGUF files only
where their tensors are plain floats, so transformers dequantises the file to a float32 checkpoint first. Each
precision (int4, int8, fp32) becomes a folder of its own under FOLDER. What is there already is left alone.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


def write_checkpoint(gguf: Path, folder: Path) -> None:
    """Writes weights, configuration and tokenizer of a GGUF file as transformers' own files."""
    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(**source), dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())  # a loaded model counts as quantised and can't be saved
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


def build(checkpoint: Path, folder: Path, precision: str) -> None:
    """Runs the builder; ``folder`` is there afterwards, whole, or not at all."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    named = {"-m": "model", "-i": checkpoint, "-o": partial, "-p": precision, "-e": "cpu"}
    words = [str(word) for pair in named.items() for word in pair]
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", *words]
    # Without it weights of 4 and 8 bits are multiplied in float, at a fraction of the speed.
    subprocess.run([*command, "--extra_options", "accuracy_level=4"], check=True)  # noqa: S603
    partial.rename(folder)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("precisions", nargs="*", default=["int4", "int8"])
    options = parser.parse_args()
    missing = [name for name in options.precisions if not (options.folder / name).exists()]
    if not missing:
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as checkpoint:
        write_checkpoint(options.gguf, Path(checkpoint))
        for name in missing:
            build(Path(checkpoint), options.folder / name, name)


if __name__ == "__main__":
    main()
