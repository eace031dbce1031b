"""The torch worker's int8 on the CPU against plain transformers in float32: speed, memory, loading.

    .venv-torch/bin/python -m benchmarks.torch_text

Both run the same weights. Speeds are measured in turns and compared within a turn, since a machine's pace
moves more from hour to hour than within a minute.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.servers.process_tree import ProcessTree
from benchmarks.stack import Stack
from diplex import Client
from workers.runtime.catalogue import Catalogue
from workers.runtime.store import Store, default_home

MODEL: Final = "SmolLM2-135M-Instruct"
STREAMS: Final = (1, 16)
TOKENS: Final = 48
TURNS: Final = 3
PROMPT: Final = "Write a long story about a lighthouse keeper who finds a message in a bottle."
MEBIBYTE: Final = 2**20
_LOOK_SECONDS: Final = 0.5
_SPARE_SECONDS: Final = 60


class Plain:
    """Transformers' own model, decoding greedily with its own cache."""

    def __init__(self, gguf: Path) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        ).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)

    @torch.inference_mode()
    def rate(self, streams: int) -> float:
        """Tokens a second of all streams together, behind the prompt."""
        chat = [{"role": "user", "content": PROMPT}]
        inputs: Any = self._tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt"
        )
        ids = inputs["input_ids"].repeat(streams, 1)
        output = self._model(ids, use_cache=True, logits_to_keep=1)
        began = time.perf_counter()
        for _ in range(TOKENS):
            token = output.logits[:, -1:].argmax(-1)
            output = self._model(token, cache=output.cache, use_cache=True, logits_to_keep=1)
        return streams * TOKENS / (time.perf_counter() - began)


class Served:
    """The torch worker behind a gateway."""

    def __init__(self, address: str) -> None:
        self._client = Client(address)

    def rate(self, streams: int, model: str = MODEL) -> float:
        """Tokens a second of all streams together, while all of them decode."""
        times: list[list[tuple[float, int]]] = [[] for _ in range(streams)]
        threads = [threading.Thread(target=self._stream, args=(model, each)) for each in times]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        began = max(each[0][0] for each in times)
        ended = min(each[-1][0] for each in times)
        tokens = sum(count for each in times for at, count in each if began < at <= ended)
        return tokens / (ended - began)

    def _stream(self, model: str, times: list[tuple[float, int]]) -> None:
        options = {"temperature": 0, "max_tokens": TOKENS, "min_tokens": TOKENS, "token_ids": True}
        with self._client.stream(PROMPT, model=model, **options) as stream:
            times.extend((time.perf_counter(), len(delta.token_ids)) for delta in stream)


@dataclass(frozen=True, slots=True)
class Engine:
    """What an engine process took, in bytes above its import baseline, and how long its load."""

    resident: int
    peak: int
    seconds: float
    """Of a second load, the engine process's start and its imports included."""
    spared: float
    """The same where an engine process stands ready."""
    importing: float
    """Of that, what a process takes to start and to import what an engine needs."""


def engine_memory(profile: str) -> Engine:
    """Loads a profile that is in the store already, in a worker of its own, and once more."""
    baseline, importing = _imports()
    model, alone = f"{MODEL}/{profile}", ("--no-spare-engine",)
    with (
        Stack(models=[model], worker="workers.torch_worker", worker_options=alone) as stack,
        Client(stack.address) as client,
    ):
        loaded = _reloaded(client, model)
        client.generate(PROMPT, max_tokens=8, temperature=0)
        engine = ProcessTree(ProcessTree(stack.pids[:1]).pids[-1:])  # what the worker has started
        resident, peak = engine.resident_bytes - baseline, engine.peak_bytes - baseline
    with Stack(models=[model], worker="workers.torch_worker") as stack, Client(stack.address) as client:
        _wait_for_spare(stack.pids[0])
        spared = _reloaded(client, model)
    return Engine(resident, peak, loaded, spared, importing)


def _wait_for_spare(worker: int) -> None:
    """Until the worker has an engine process beside the one that serves, and that has imported all."""
    until, before = time.monotonic() + _SPARE_SECONDS, -1.0
    while time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
        _, *engines = ProcessTree([worker]).pids
        now = ProcessTree(engines).cpu_seconds
        if len(engines) > 1 and now == before:
            return
        before = now
    raise RuntimeError(f"no spare engine after {_SPARE_SECONDS} s")


def _reloaded(client: Client, model: str) -> float:
    """Seconds that a load takes behind an unloading."""
    client.unload_model(model)
    began = time.perf_counter()
    client.load_model(model)
    return time.perf_counter() - began


def _imports() -> tuple[int, float]:
    """Resident bytes of an engine process that has imported all and loaded nothing; the seconds it took."""
    program = (
        "import os; from workers.torch_worker import engine; import workers.torch_worker.loading;"
        "from transformers import LlamaForCausalLM; import torch; torch.ones(9) @ torch.ones(9);"
        "print(next(l for l in open('/proc/self/status') if l.startswith('VmRSS')).split()[1])"
    )
    began = time.perf_counter()
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)  # noqa: S603
    return int(output.stdout.split()[-1]) * 1024, time.perf_counter() - began


def turns(plain: Plain, served: Served) -> Iterator[tuple[int, float, float]]:
    """Streams, and both rates, again and again."""
    for _ in range(TURNS):
        for streams in STREAMS:
            yield streams, plain.rate(streams), served.rate(streams)


def main() -> None:
    """Measures and prints."""
    store, entry = Store(default_home(os.environ)), Catalogue.load().find(MODEL).entry
    plain = Plain(store.source(entry, "torch"))
    with Stack(models=[f"{MODEL}/int8"], worker="workers.torch_worker") as stack:
        served = Served(stack.address)
        for streams in STREAMS:
            served.rate(streams)
        measured = list(turns(plain, served))
    for streams in STREAMS:
        of = [(one, other) for number, one, other in measured if number == streams]
        ratio = statistics.median(other / one for one, other in of)
        ours, theirs = (statistics.median(each[index] for each in of) for index in (1, 0))
        line = f"{streams:2} streams: {ours:6.1f} tok/s, transformers {theirs:6.1f}, ratio {ratio:.2f}"
        print(line, flush=True)
    del plain
    for profile in ("fp32", "int8"):
        engine_memory(profile)  # prepares it, and brings its files into memory
    engines = {profile: engine_memory(profile) for profile in ("fp32", "int8")}
    for profile, engine in engines.items():
        print(
            f"{profile}: {engine.resident / MEBIBYTE:.0f} MiB above imports, "
            f"peak {engine.peak / engine.resident:.2f} of that, second load {engine.seconds:.1f} s, "
            f"of which process and imports {engine.importing:.1f} s; "
            f"with a spare engine {engine.spared:.1f} s"
        )
    print(f"int8 takes {engines['int8'].resident / engines['fp32'].resident:.2f} of fp32")


if __name__ == "__main__":
    main()
