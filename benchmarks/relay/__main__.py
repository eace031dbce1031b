"""What the gateway adds to a call, beside what Envoy adds, in one run.

    python -m benchmarks.relay [--rounds N] [--calls N] [--streams N] [--messages N] [--processes N ...]

A backend without a model answers at once. *Latency*: unary calls, one at a time, in turns straight to the
backend and through each proxy; what a proxy adds is the difference of the percentiles. *Throughput*: streams
at the same time, every message passed on by itself, in turns again; messages a second at the client, and CPU
seconds of the proxy's processes a million messages. Client, backend and proxies share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections import defaultdict
from pathlib import Path

from diplex.polling import poll_without_event_engine

poll_without_event_engine()

import grpc

from benchmarks.relay.ways import ENVOY, STREAM, UNARY, Way, opened, request

_WARM_UP = 200


def latencies(ways: list[Way], calls: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Unary calls, by way: the seconds of each, and CPU milliseconds a call of what stands between.

    The ways take turns call by call.
    """
    found: dict[str, list[float]] = {way.name: [] for way in ways}
    channels = [grpc.insecure_channel(way.address) for way in ways]
    try:
        stubs = [(way.name, channel.unary_unary(UNARY)) for way, channel in zip(ways, channels, strict=True)]
        asked = request(1)
        for _ in range(_WARM_UP):
            for _, call in stubs:
                call(asked)
        cpu = {way.name: way.between.cpu_seconds for way in ways}
        for _ in range(calls):
            for name, call in stubs:
                began = time.perf_counter()
                call(asked)
                found[name].append(time.perf_counter() - began)
        cpu = {way.name: 1e3 * (way.between.cpu_seconds - cpu[way.name]) / calls for way in ways}
    finally:
        for channel in channels:
            channel.close()
    return found, cpu


async def throughput(way: Way, streams: int, messages: int) -> tuple[float, float]:
    """Messages a second over all streams, and CPU seconds of what stands between a million of them."""
    channels = [grpc.aio.insecure_channel(way.address, _OWN_CONNECTION) for _ in range(_CONNECTIONS)]
    asked, seen = request(messages), 0

    async def read(channel: grpc.aio.Channel) -> None:
        nonlocal seen
        call = channel.unary_stream(STREAM)(asked)
        while await call.read() is not grpc.aio.EOF:
            seen += 1

    cpu, began = way.between.cpu_seconds, time.perf_counter()
    await asyncio.gather(*(read(channels[index % _CONNECTIONS]) for index in range(streams)))
    seconds, cpu = time.perf_counter() - began, way.between.cpu_seconds - cpu
    await asyncio.gather(*(channel.close() for channel in channels))
    return seen / seconds, 1e6 * cpu / seen


_CONNECTIONS = 8
"""Of the client: a gateway of several processes is given whole connections."""
_OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


def _percentile(values: list[float], share: float) -> float:
    return 1e3 * sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _latency_table(found: dict[str, list[float]], cpu: dict[str, float]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for name, values in found.items():
        p50, p99 = (_percentile(values, share) for share in (0.5, 0.99))
        base = [_percentile(found["direct"], share) for share in (0.5, 0.99)]
        rows.append(
            {
                "way": name,
                "p50": p50,
                "p99": p99,
                "added_p50": p50 - base[0],
                "added_p99": p99 - base[1],
                "cpu_ms": cpu[name],
            }
        )
    return rows


def main() -> None:
    """Measures and prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of the throughput")
    parser.add_argument("--calls", type=int, default=2000, help="unary, a way")
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--messages", type=int, default=500, help="a stream")
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2], help="a gateway for each number")
    parser.add_argument("--no-envoy", action="store_true")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    if not options.no_envoy and not ENVOY.exists():
        parser.error(f"{ENVOY} is missing: run `make bench-peers`, or leave it out with --no-envoy")
    with opened(options.processes, envoy=not options.no_envoy) as ways:
        latency = _latency_table(*latencies(ways, options.calls))
        print(f"{'unary, ms':14}{'p50':>8}{'p99':>8}{'added p50':>11}{'added p99':>11}{'CPU ms':>9}")
        for row in latency:
            figures = f"{row['p50']:8.2f}{row['p99']:8.2f}{row['added_p50']:11.2f}{row['added_p99']:11.2f}"
            figures += f"{row['cpu_ms']:9.2f}"
            print(f"{row['way']:14}{figures}")
        rounds: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for _ in range(options.rounds):
            for way in ways:
                rounds[way.name].append(asyncio.run(throughput(way, options.streams, options.messages)))
        title = f"{options.streams} streams"
        print(f"\n{title:14}{'messages/s':>12}{'least to most':>18}{'CPU s a million':>17}")
        for name, figures in rounds.items():
            rates, cpus = zip(*figures, strict=True)
            spread = f"{min(rates):.0f} to {max(rates):.0f}"
            print(f"{name:14}{statistics.median(rates):12.0f}{spread:>18}{statistics.median(cpus):17.1f}")
    if options.json:
        options.json.write_text(json.dumps({"latency": latency, "throughput": rounds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
