"""What HTTP costs many streams: their speed over that of the same streams over gRPC.

    python -m benchmarks.http_edge [--clients N] [--tokens N] [--rounds N] [--model NAME] [--json FILE]
    python -m benchmarks.http_edge --relay [--clients N] [--tokens N] [--rounds N] [--json FILE]

The same load goes, in turns within one run, to two gateways with a worker each, over gRPC to the one and as
server-sent events over HTTP to the other. On both sides the clients are one process, whose cost counts: it is
shown, in cores. A ratio of 0.95 says that HTTP costs 5 percent of gRPC's tokens a second.

With ``--relay`` there is one gateway, and behind it a backend without a model that sends each token by itself
and as fast as it can, so that nothing is measured but the edges: messages a second, and CPU seconds of the
gateway a million messages.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import weights
from benchmarks.relay.__main__ import throughput
from benchmarks.relay.backend import MODEL
from benchmarks.relay.ways import Way, opened
from benchmarks.servers.diplex import Diplex
from benchmarks.servers.diplex_http import DiplexHttp
from benchmarks.suite.cells import SHORT, LoadCell, Task
from benchmarks.suite.prompts import PromptBook
from benchmarks.suite.runner import Runner
from benchmarks.transport import report

_HEAD = (
    "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    "content-type: application/json\r\ncontent-length: {}\r\n\r\n"
)


async def http_throughput(way: Way, streams: int, messages: int) -> tuple[float, float]:
    """Messages a second over all streams of HTTP, and CPU seconds of the gateway a million of them."""
    body = json.dumps({"model": MODEL, "prompt": "Hi", "max_tokens": messages, "stream": True}).encode()
    asked = _HEAD.format(len(body)).encode() + body
    host, _, port = way.http.rpartition(":")
    seen = 0

    async def read() -> None:
        nonlocal seen
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(asked)
        while line := await reader.readline():
            seen += line.startswith(b"data: {")
        writer.close()

    cpu, began = way.between.cpu_seconds, time.perf_counter()
    await asyncio.gather(*(read() for _ in range(streams)))
    seconds, cpu = time.perf_counter() - began, way.between.cpu_seconds - cpu
    return seen / seconds, 1e6 * cpu / seen


def _relay(clients: int, tokens: int, rounds: int) -> list[Any]:
    measured: dict[str, list[tuple[float, float]]] = {"gRPC": [], "HTTP": []}
    with opened([1], envoy=False) as ways:
        for _ in range(rounds):
            measured["gRPC"].append(asyncio.run(throughput(ways[-1], clients, tokens)))
            measured["HTTP"].append(asyncio.run(http_throughput(ways[-1], clients, tokens)))
    print(f"{f'{clients} streams':14}{'messages/s':>12}{'least to most':>18}{'CPU s a million':>17}")
    for name, figures in measured.items():
        rates, cpus = zip(*figures, strict=True)
        spread = f"{min(rates):.0f} to {max(rates):.0f}"
        print(f"{name:14}{statistics.median(rates):12.0f}{spread:>18}{statistics.median(cpus):17.1f}")
    return [measured]


def _with_model(clients: int, tokens: int, rounds: int, model: str) -> list[Any]:
    servers = [DiplexHttp(model, name="http"), Diplex(model, name="grpc")]
    runner = Runner(servers, PromptBook(weights.find(model).tokenizer), print)
    cell = LoadCell(clients, SHORT, tokens)
    records = asyncio.run(runner.run(Task(cell, rounds)))
    print(f"\n{report(records, cell, ('http', 'HTTP'), ('grpc', 'gRPC'))}")
    return [asdict(record) for record in records]


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default=weights.MODEL)
    parser.add_argument("--relay", action="store_true", help="without a model")
    parser.add_argument("--json", type=Path, help="write all rounds to this file")
    options = parser.parse_args()
    load = (options.clients, options.tokens, options.rounds)
    records = _relay(*load) if options.relay else _with_model(*load, options.model)
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
