"""The ways from a client to the backend: straight, through Envoy, through gateways."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc

from benchmarks.relay.backend import MODEL
from benchmarks.servers.child import Child
from benchmarks.servers.process_tree import ProcessTree
from diplex.v1 import generation_pb2 as pb

ENVOY = Path(".venv-peers/envoy/bin/envoy")
UNARY = "/diplex.v1.GenerationService/Generate"
STREAM = "/diplex.v1.GenerationService/GenerateStream"

_READY_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Way:
    """Where to call, and what stands between there and the backend."""

    name: str
    address: str
    between: ProcessTree
    http: str = ""
    """Where it speaks HTTP, if it does."""


def request(tokens: int) -> bytes:
    """A request that the backend answers with so many deltas."""
    asked = pb.GenerateRequest(model=MODEL, prompt="A short prompt of eight tokens, more or less.")
    asked.stopping.max_tokens = tokens
    return asked.SerializeToString()


@contextmanager
def opened(processes: Sequence[int], *, envoy: bool) -> Iterator[list[Way]]:
    """Starts backend and proxies, each a process or more of its own; waits until all of them pass calls on.

    Args:
        processes: A gateway for each, with so many processes.
        envoy: Whether to start Envoy, with one thread.
    """
    backend = _free_address()
    children = [_python("benchmarks.relay.backend", backend)]
    ways = [Way("direct", backend, ProcessTree())]
    with TemporaryDirectory(prefix="diplex-") as folder:
        try:
            if envoy:
                config, address = Path(folder) / "envoy.json", _free_address()
                config.write_text(json.dumps(_envoy_config(address, backend)))
                options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
                children.append(Child([str(ENVOY), "-c", str(config), *options], os.environ))
                ways.append(Way("envoy", address, ProcessTree([children[-1].pid])))
            for number in processes:
                address, http = _free_address(), _free_address()
                options = ("--processes", str(number)) if number > 1 else ("--http-listen", http)
                children.append(_python("gateway", "--listen", address, "--workers", backend, *options))
                ways.append(Way(f"gateway, {number}", address, ProcessTree([children[-1].pid]), http))
            for way, child in zip(ways, children, strict=True):
                _wait(way, child)
            yield ways
        finally:
            for child in reversed(children):
                child.kill()


def _python(module: str, *arguments: str) -> Child:
    return Child([sys.executable, "-m", module, *arguments], {**os.environ, "DIPLEX_LOG_LEVEL": "WARNING"})


def _free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def _wait(way: Way, child: Child) -> None:
    until = time.monotonic() + _READY_SECONDS
    with grpc.insecure_channel(way.address) as channel:
        while True:
            try:
                channel.unary_unary(UNARY)(request(1), timeout=5, wait_for_ready=True)
            except grpc.RpcError as error:
                if child.ended or time.monotonic() > until:
                    raise RuntimeError(f"{way.name} does not answer: {error}\n{child.log()}") from error
                time.sleep(0.1)
            else:
                return


def _envoy_config(address: str, backend: str) -> dict[str, Any]:
    """HTTP/2 on both sides, one route, no access log, no timeouts: the least that passes gRPC on."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "0s"}}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "relay",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    cluster = {
        "name": "backend",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "backend",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket_address(backend)}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }
    return {
        "static_resources": {
            "listeners": [{"address": _socket_address(address), "filter_chains": [chain]}],
            "clusters": [cluster],
        }
    }


def _socket_address(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}
