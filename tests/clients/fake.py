"""A gateway and a worker without a model, in one process, until SIGTERM."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

from diplex.polling import poll_without_event_engine
from diplex.telemetry import configure_logging

poll_without_event_engine()

from gateway.application import Gateway  # noqa: E402  # what gRPC reads from the environment it reads before
from gateway.config import GatewayConfig  # noqa: E402
from gateway.http.config import HttpConfig  # noqa: E402
from tests.fakes import FakeWorker, model  # noqa: E402


async def main() -> None:
    """Serves."""
    async with FakeWorker("fake", models=[model("tiny", images=True)]) as worker:
        config = GatewayConfig(
            listen="127.0.0.1:0", workers=(worker.address,), http=HttpConfig(listen="127.0.0.1:0")
        )
        async with Gateway(config) as gateway:
            async with aclosing(gateway.fleet.snapshots()) as snapshots:
                async for fleet in snapshots:
                    if fleet.connected:
                        break
            print(json.dumps({"event": "serving", "url": gateway.url}), flush=True)  # noqa: T201  # tells where
            await gateway.run_until_signal()


if __name__ == "__main__":
    configure_logging("fake", log_format="json", level="ERROR")
    asyncio.run(main())
