"""aiperf, a load generator made for OpenAI's API, and ``diplex bench --http`` on one gateway, in turns.

    make bench-public-tool
    python -m benchmarks.public_tool [--clients N] [--requests N] [--rounds N] [--json FILE]

Both send the same load: so many requests at a time to ``/v1/completions``, streamed, each with a prompt of
its own, of so many tokens, and an answer of exactly so many. What each of them says is put beside the
other's, round by round; every second round begins with the other one. aiperf runs in an environment of its
own, counts tokens as the gateway tells it, and makes its prompts with the tokenizer of the model store. Each
has texts of its own, so the worker guesses no tokens: how often it guesses right depends on the text. Gateway
and worker have one half of the cores and the load generators the other, since aiperf takes half a core and
more, which would slow down what it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import weights
from benchmarks.servers.process_tree import ProcessTree
from benchmarks.stack import Stack
from benchmarks.suite.interference import QUIET_CORES, CpuTimes, quiet
from diplex.cli.listening import free_address

_AIPERF: Final = Path(__file__).parents[1] / ".venv-peers" / "aiperf" / "bin" / "aiperf"
_TOKENIZER_CONFIG: Final = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 8192}
_SECONDS: Final = 300
_ATTEMPTS: Final = 3
_WAIT_SECONDS: Final = 20
"""How long to wait for a quiet machine."""

Figures = dict[str, float]

_FIGURES: Final = (
    ("tokens/s", "tokens_s", "output_token_throughput", "avg"),
    ("first token, mean, ms", "ttft_mean_ms", "time_to_first_token", "avg"),
    ("first token, p50, ms", "ttft_p50_ms", "time_to_first_token", "p50"),
    ("each token behind it, mean, ms", "each_mean_ms", "inter_token_latency", "avg"),
    ("whole request, mean, ms", "whole_mean_ms", "request_latency", "avg"),
    ("requests", "requests", "request_count", "avg"),
)
"""For a person, here, and in aiperf's export: metric and statistic."""


def ours(url: str, options: argparse.Namespace, seed: int) -> Figures:
    """What ``diplex bench`` says."""
    command = [sys.executable, "-m", "diplex.cli", "bench", "--http", f"{url}/v1", "--json", *_load(options)]
    command += ["--model", options.model, "--seed", str(seed)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)  # noqa: S603  # our own
    told = json.loads(done.stdout)
    return {
        "tokens_s": told["tokens_per_second"],
        "ttft_mean_ms": told["first_token_ms"]["mean"],
        "ttft_p50_ms": told["first_token_ms"]["p50"],
        "each_mean_ms": told["each_token_ms"]["mean"],
        "whole_mean_ms": told["whole_ms"]["mean"],
        "requests": float(told["requests"]),
        "generator_cores": told["generator_cores"],
    }


def theirs(url: str, options: argparse.Namespace, seed: int, tokenizer: Path) -> Figures:
    """What aiperf says."""
    with tempfile.TemporaryDirectory(prefix="diplex-aiperf-") as folder:
        command = [
            *(str(_AIPERF), "profile", "--model", options.model, "--url", url),
            *("--endpoint-type", "completions", "--streaming", "--use-server-token-count"),
            *("--tokenizer", str(tokenizer), "--random-seed", str(seed)),
            *("--isl", str(options.prompt_tokens), "--osl", str(options.tokens)),
            *("--extra-inputs", f"min_tokens:{options.tokens}", "--extra-inputs", "temperature:0"),
            *("--concurrency", str(options.clients), "--request-count", str(options.requests)),
            *("--warmup-request-count", str(options.clients)),
            *("--workers-max", "1", "--record-processors", "1", "--no-server-metrics", "--no-gpu-telemetry"),
            *("--ui", "none", "--artifact-dir", folder),
        ]
        before, began = _children_seconds(), time.perf_counter()
        done = subprocess.run(  # noqa: S603  # the tool that is measured
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            cwd=folder,
            env=_environment(),
        )
        exports = list(Path(folder).rglob("profile_export_aiperf.json"))
        if done.returncode or not exports:
            raise SystemExit(f"aiperf failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
        told = json.loads(exports[0].read_text())
    figures = {name: _value(told, metric, statistic) for _, name, metric, statistic in _FIGURES}
    cores = (_children_seconds() - before) / (time.perf_counter() - began)
    return {**figures, "generator_cores": cores}


def _halves() -> tuple[set[int], set[int]]:
    """Cores for what is measured, and for who measures; the same ones where there is but one."""
    cores = sorted(os.sched_getaffinity(0))
    middle = len(cores) // 2
    return set(cores[:middle] or cores), set(cores[middle:])


def _children_seconds() -> float:
    """CPU time of what has run and ended, its start included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _load(options: argparse.Namespace) -> list[str]:
    return [
        *("--clients", str(options.clients), "--requests", str(options.requests)),
        *("--prompt-tokens", str(options.prompt_tokens), "--max-tokens", str(options.tokens)),
    ]


def _value(told: dict[str, Any], metric: str, statistic: str) -> float:
    """A figure of aiperf's export. Times are milliseconds there."""
    return float(told[metric][statistic])


def _environment() -> dict[str, str]:
    """Without what keeps it from local tokenizers: in its offline mode it takes names of a hub only."""
    offline = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}
    return {name: value for name, value in os.environ.items() if name not in offline}


def _write_tokenizer(folder: Path, model: str) -> Path:
    shutil.copy(weights.find(model).tokenizer, folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(json.dumps(_TOKENIZER_CONFIG))
    return folder


def _measure(options: argparse.Namespace) -> list[dict[str, Figures]]:
    rounds = []
    http = free_address("127.0.0.1:0")
    servers, generators = _halves()
    worker = ("--slots", str(options.clients), "--no-speculation", "--threads", str(len(servers)))
    os.sched_setaffinity(0, servers)  # what is started has the same cores
    with (
        tempfile.TemporaryDirectory(prefix="diplex-tokenizer-") as folder,
        Stack(models=[options.model], worker_options=worker, http_listen=http) as stack,
    ):
        tree = ProcessTree(stack.pids)
        os.sched_setaffinity(0, generators)
        tokenizer = _write_tokenizer(Path(folder), options.model)
        asked = {
            "diplex": lambda seed: ours(f"http://{http}", options, seed),
            "aiperf": lambda seed: theirs(f"http://{http}", options, seed, tokenizer),
        }
        for number in range(options.rounds):
            order = ("diplex", "aiperf") if number % 2 == 0 else ("aiperf", "diplex")
            one_by_one = {who: functools.partial(asked[who], number + 1) for who in order}
            measured = {who: _undisturbed(tree, measure) for who, measure in one_by_one.items()}
            for who, figures in measured.items():
                line = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
                print(f"{who:7} {line}", flush=True)
            rounds.append(measured)
    return rounds


def _undisturbed(tree: ProcessTree, measure: Callable[[], Figures]) -> Figures:
    """Measures until nobody else took part of the machine; the least disturbed attempt counts."""
    attempts = []
    for _ in range(_ATTEMPTS):
        asyncio.run(quiet([tree], _WAIT_SECONDS))
        before = CpuTimes.now([tree])
        figures = measure()
        figures["foreign_cores"] = before.foreign_cores(CpuTimes.now([tree]))
        attempts.append(figures)
        if figures["foreign_cores"] < QUIET_CORES:
            break
    return min(attempts, key=lambda each: each["foreign_cores"])


def table(rounds: Sequence[dict[str, Figures]]) -> str:
    """Medians of both, and the median, least and most of the rounds' ratios, ours over theirs."""
    lines = ["| | `diplex bench` | aiperf | ratio (least to most) |", "|---|---|---|---|"]
    for title, name, *_ in _FIGURES:
        mine, other = ([each[who][name] for each in rounds] for who in ("diplex", "aiperf"))
        ratios = [one / two for one, two in zip(mine, other, strict=True)]
        lines.append(
            f"| {title} | {statistics.median(mine):.1f} | {statistics.median(other):.1f} | "
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--model", default=weights.MODEL)
    parser.add_argument("--json", type=Path, help="write all rounds to this file")
    options = parser.parse_args()
    if not _AIPERF.is_file():
        raise SystemExit("aiperf is not there: make .venv-peers/aiperf/setup.stamp")
    rounds = _measure(options)
    print(f"\n{table(rounds)}")
    if options.json:
        options.json.write_text(json.dumps(rounds, indent=1) + "\n")


if __name__ == "__main__":
    main()
