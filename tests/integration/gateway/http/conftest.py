"""A gateway with both edges, between OpenAI's own client and a fake worker."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager

import openai
import pytest

from gateway.application import Gateway
from gateway.config import GatewayConfig
from gateway.http.config import HttpConfig
from gateway.security.config import SecurityConfig
from tests.fakes import FakeWorker, model


@asynccontextmanager
async def serving(*workers, security=None, listen="127.0.0.1:0", **http):
    """A gateway for these workers, once they are connected."""
    config = GatewayConfig(
        listen="127.0.0.1:0",
        workers=tuple(worker.address for worker in workers),
        http=HttpConfig(listen=listen, **http),
        security=SecurityConfig(**(security or {})),
    )
    async with Gateway(config) as gateway, aclosing(gateway.fleet.snapshots()) as snapshots:
        async for fleet in snapshots:
            if len(fleet.connected) == len(workers):
                break
        yield gateway


def openai_at(url, key="none", **options):
    """OpenAI's client, unchanged."""
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, **options)


@pytest.fixture
async def worker():
    async with FakeWorker("one", models=[model("tiny", images=True), model("org/other")]) as fake:
        yield fake


@pytest.fixture
async def gateway(worker):
    async with serving(worker) as running:
        yield running


@pytest.fixture
async def client(gateway):
    async with openai_at(gateway.url) as connected:
        yield connected
