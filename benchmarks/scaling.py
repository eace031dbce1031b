"""What one worker and one gateway carry, and what they need for it.

    python -m benchmarks.scaling [--streams N ...] [--seconds S] [--budget MIB] [--model NAME] [--json FILE]

Worker and gateway run as pods of the Helm chart would run them: 16 slots, the model's own context, a
memory budget of four fifths of a limit of 4 GiB. So many clients at once each send one request after
the other, with a prompt of 128 tokens of its own and an answer of 64. Resident memory and CPU are of
each side's whole tree of processes, from ``/proc``; the clients' CPU comes from the same cores and is
shown.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import weights
from benchmarks.servers.diplex import Diplex
from benchmarks.servers.process_tree import ProcessTree
from benchmarks.servers.server import Sizing
from benchmarks.suite import load, metrics
from benchmarks.suite.prompts import PromptBook

_PROMPT, _ANSWER = 128, 64
_SIZING = Sizing(clients=16, max_length=8192)
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process tree took meanwhile."""

    resident_mib: float
    """At the end; nothing is given back while requests come."""
    cores: float


@dataclass(frozen=True, slots=True)
class Row:
    """So many clients."""

    clients: int
    requests: int
    tokens_s: float
    """Generated, over all clients."""
    stream_tokens_s: float
    """Of one stream, behind its first token; the median."""
    first_p50_ms: float
    first_p95_ms: float
    worker: Sample
    gateway: Sample
    client_cores: float


class Meter:
    """A process tree's use between two moments."""

    def __init__(self, tree: ProcessTree) -> None:
        self._tree = tree
        self._cpu, self._began = tree.cpu_seconds, time.perf_counter()

    def sample(self) -> Sample:
        """Since it was made."""
        seconds = time.perf_counter() - self._began
        return Sample(self._tree.resident_bytes / _MIB, (self._tree.cpu_seconds - self._cpu) / seconds)


async def measure(server: Diplex, book: PromptBook, clients: int, seconds: float) -> Row:
    """All clients for so long; requests that run then are read to their ends."""
    worker, gateway = (Meter(ProcessTree([pid])) for pid in server.tree.pids[:2])
    began, own = time.perf_counter(), time.process_time()

    async def one(number: int) -> list[load.Stream]:
        seen: list[load.Stream] = []
        while time.perf_counter() - began < seconds:
            prompt = book.prompt(_PROMPT, clients, number, len(seen))
            seen.append(await load.client(server, itertools.repeat(prompt), _ANSWER))
        return seen

    streams = list(itertools.chain(*await load.together([one(number) for number in range(clients)])))
    firsts = [metrics.first_token_ms(stream) for stream in streams]
    return Row(
        clients=clients,
        requests=len(streams),
        tokens_s=metrics.whole_rate(streams),
        stream_tokens_s=metrics.percentile([metrics.decode_rate([stream]) for stream in streams], 50),
        first_p50_ms=metrics.percentile(firsts, 50),
        first_p95_ms=metrics.percentile(firsts, 95),
        worker=worker.sample(),
        gateway=gateway.sample(),
        client_cores=(time.process_time() - own) / (time.perf_counter() - began),
    )


async def run(model: str, numbers: list[int], seconds: float, budget: int) -> list[Row]:
    """A row for each number of clients, one server for all."""
    book = PromptBook(weights.find(model).tokenizer)
    server = Diplex(model, ["--memory-budget", str(budget)])
    await server.start(_SIZING)
    try:
        idle = [Meter(ProcessTree([pid])) for pid in server.tree.pids[:2]]
        await asyncio.sleep(5)
        for name, meter in zip(("worker", "gateway"), idle, strict=True):
            sample = meter.sample()
            print(f"{name}, loaded and idle: {sample.resident_mib:.0f} MiB, {sample.cores:.3f} cores")
        rows = []
        for number in numbers:
            rows.append(await measure(server, book, number, seconds))
            print(_line(rows[-1]), flush=True)
        worker, gateway = (ProcessTree([pid]).peak_bytes / _MIB for pid in server.tree.pids[:2])
        print(f"most: worker {worker:.0f} MiB, gateway {gateway:.0f} MiB")
    finally:
        await server.stop()
    return rows


_HEAD = (
    f"{'clients':>7}{'requests/s':>11}{'tok/s':>8}{'a stream':>9}{'first p50':>10}{'p95 ms':>8}"
    f"{'worker MiB':>11}{'cores':>7}{'gateway MiB':>12}{'cores':>7}{'clients':>8}"
)


def _line(row: Row) -> str:
    return (
        f"{row.clients:7}{row.tokens_s / _ANSWER:11.2f}{row.tokens_s:8.0f}{row.stream_tokens_s:9.1f}"
        f"{row.first_p50_ms:10.0f}{row.first_p95_ms:8.0f}{row.worker.resident_mib:11.0f}{row.worker.cores:7.2f}"
        f"{row.gateway.resident_mib:12.0f}{row.gateway.cores:7.2f}{row.client_cores:8.2f}"
    )


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8, 12, 16, 24, 32])
    parser.add_argument("--seconds", type=float, default=10.0, help="a number of streams")
    parser.add_argument("--budget", type=int, default=3276, help="of memory, MiB")
    parser.add_argument("--model", default=weights.MODEL)
    parser.add_argument("--json", type=Path, help="write all rows to this file")
    options = parser.parse_args()
    print(_HEAD)
    rows = asyncio.run(run(options.model, options.streams, options.seconds, options.budget))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
