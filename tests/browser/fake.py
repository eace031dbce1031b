"""Gateways and a worker without a model for pages to look at, in one process, until SIGTERM.

What is answered depends on the last message, by its first word. One gateway asks for no key, the other does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path

from diplex.polling import poll_without_event_engine
from diplex.telemetry import configure_logging

poll_without_event_engine()

from diplex.api_key import new_key  # noqa: E402  # what gRPC reads from the environment it reads before
from diplex.errors import InternalError  # noqa: E402
from diplex.rpc import Call  # noqa: E402
from diplex.v1 import generation_pb2 as pb  # noqa: E402
from diplex.v1 import models_pb2  # noqa: E402
from diplex.worker.v1 import worker_pb2  # noqa: E402
from gateway.application import Gateway  # noqa: E402
from gateway.config import GatewayConfig  # noqa: E402
from gateway.http.config import HttpConfig  # noqa: E402
from gateway.security.config import SecurityConfig  # noqa: E402
from tests.fakes import Fail, FakeWorker, Pause, Say, Send, Step, model  # noqa: E402

TEXT = """A *diplexer* puts **two bands** on one port, as `L` and `C` do it:

1. the low one
   - by a coil
2. the high one

```python
def port(low: float, high: float) -> float:
    return low + high  # <b>not markup</b>
```

> It is <script>alert(1)</script> harmless.

| band | by |
|---|---|
| low | coil |

See [the API](https://example.com/docs) & more."""


def script(request: worker_pb2.GenerateRequest) -> Sequence[Step]:
    """What a generation does."""
    parts = request.request.chat.messages[-1].parts
    kind, _, rest = "".join(part.text for part in parts).partition(" ")
    images = sum(part.HasField("image") for part in parts)
    match kind:
        case "stream":
            return list(_streams(request.request.output.n or 1, int(rest)))
        case "endless":
            return [step for number in range(10_000) for step in (Say(f"{number} "), Pause(0.02))]
        case "markdown":
            # In pieces that have nothing to do with its lines.
            return [Say(TEXT[at : at + 7]) for at in range(0, len(TEXT), 7)]
        case "break":
            return [Say("Half an "), Pause(0.05), Fail(InternalError("the engine is broken"))]
        case "refuse":
            return [Fail(InternalError("the engine did not even start"))]
    count = len(request.request.chat.messages)
    return [Say(f"{count} messages and {images} images: "), Say(kind)]


def _streams(choices: int, rounds: int) -> Iterator[Step]:
    """All choices side by side, a word each a round."""
    for number in range(rounds):
        for choice in range(choices):
            text = "\n\n" if number % 25 == 24 else f"word{number} "
            yield Send(pb.Delta(choice=choice, text=text, tokens=1, token_ids=[number + 1]))
        yield Pause(0.03)


class Loading(FakeWorker):
    """Loads and unloads the models that it advertises."""

    async def load_model(
        self, request: worker_pb2.LoadModelRequest, _: Call
    ) -> AsyncGenerator[worker_pb2.LoadModelResponse]:
        """The RPC: a download with progress."""
        self._say(request.model, models_pb2.MODEL_STATE_LOADING)
        for done in range(0, 101, 10):
            progress = pb.LoadProgress(phase=pb.LOAD_PHASE_DOWNLOAD, done=done, total=100, detail="a file")
            yield worker_pb2.LoadModelResponse(progress=progress)
            await asyncio.sleep(0.04)
        self._say(request.model, models_pb2.MODEL_STATE_READY)
        yield worker_pb2.LoadModelResponse(model=model(request.model))

    async def unload_model(
        self, request: worker_pb2.UnloadModelRequest, _: Call
    ) -> worker_pb2.UnloadModelResponse:
        """The RPC."""
        self._say(request.model, models_pb2.MODEL_STATE_UNLOADED)
        return worker_pb2.UnloadModelResponse()

    def _say(self, name: str, state: models_pb2.ModelState.ValueType) -> None:
        models = list(self._copy().models)
        for known in models:
            if known.name == name:
                known.deployments[0].state = state
        self.advertise(*models)


async def main(folder: Path) -> None:
    """Serves."""
    user, operator = new_key(), new_key()
    keys = folder / "keys.toml"
    keys.write_text(
        f'[[keys]]\nname = "user"\nid = "{user.id}"\nsha256 = "{user.sha256}"\n'
        f'[[keys]]\nname = "operator"\nid = "{operator.id}"\nsha256 = "{operator.sha256}"\n'
        'role = "operators"\n'
        '[roles.default]\nmethods = ["generate"]\n[roles.operators]\nmethods = ["generate", "operate"]\n'
    )
    models = [
        model("tiny", images=True, busy=1),
        model("asleep", state=models_pb2.MODEL_STATE_UNLOADED),
        model("dormant", state=models_pb2.MODEL_STATE_UNLOADED),
    ]
    async with (
        Loading("fake", models=models, script=script) as worker,
        Gateway(_config(worker)) as gateway,
        Gateway(_config(worker, keys_file=str(keys))) as keyed,
    ):
        for each in (gateway, keyed):
            async with aclosing(each.fleet.snapshots()) as snapshots:
                async for fleet in snapshots:
                    if fleet.connected:
                        break
        told = {"url": gateway.url, "keyed_url": keyed.url, "user": user.key, "operator": operator.key}
        print(json.dumps({"event": "serving", "told": told}), flush=True)  # noqa: T201  # tells where
        await gateway.run_until_signal()


def _config(worker: FakeWorker, **security: str) -> GatewayConfig:
    return GatewayConfig(
        listen="127.0.0.1:0",
        workers=(worker.address,),
        default_model="tiny",
        http=HttpConfig(listen="127.0.0.1:0"),
        security=SecurityConfig(**security),
    )


if __name__ == "__main__":
    configure_logging("fake", log_format="json", level="ERROR")
    asyncio.run(main(Path(sys.argv[1])))
