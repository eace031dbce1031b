"""A model that sees, from a published folder to an answer over gRPC: converted, and as published graphs."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from diplex.v1 import generation_pb2 as pb
from diplex.v1 import models_pb2
from diplex.worker.v1 import worker_pb2
from tests.fixtures.published_graphs import write_published_eyes
from tests.fixtures.tiny_eyes import ROWS, write_tiny_eyes
from tests.integration.worker_process import rest, worker
from tests.worker_events import Events

pytestmark = pytest.mark.asyncio(loop_scope="module")

READY = models_pb2.MODEL_STATE_READY

_ENTRY = """
[[model]]
name = "{name}"
architecture = "idefics3"
licence = "Apache-2.0"
capabilities = ["text", "chat", "images"]
context_length = 512
[model.onnx]
default_profile = "fp32"
[model.onnx.artefact]
format = "{format}"
sources = [{{ folder = "{name}" }}]
[model.onnx.profiles.fp32]
"""


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalogue")
    for name in ("converted", "published"):
        (folder / name).mkdir()
    write_published_eyes(folder / "published", write_tiny_eyes(folder / "converted"))
    entries = (("converted", "safetensors"), ("published", "onnx"))
    file = folder / "models.toml"
    file.write_text("".join(_ENTRY.format(name=name, format=kind) for name, kind in entries))
    return file


def picture(seed):
    random = np.random.default_rng(seed)
    file = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (90, 130, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def asked(model, *pictures, question="What is it?", split=False, tokens=12):
    parts = [pb.ContentPart(image=pb.Image(data=data)) for data in pictures]
    message = pb.ChatMessage(role=pb.ROLE_USER, parts=[*parts, pb.ContentPart(text=question)])
    request = pb.GenerateRequest(
        model=model,
        chat=pb.ChatInput(messages=[message]),
        sampling=pb.SamplingOptions(temperature=0),
        stopping=pb.StoppingOptions(max_tokens=tokens),
        image_options=pb.ImageOptions(split=True) if split else None,
    )
    return worker_pb2.GenerateRequest(request_id="r1", request=request)


async def answer(started, *arguments, **options):
    """Text and usage."""
    events = await rest(Events(started.stub.Generate(asked(*arguments, **options), timeout=60)))
    text = "".join(event.delta.text for event in events if event.HasField("delta"))
    return text, events[-1].receipt.usage


async def test_answers_depend_on_what_is_seen(catalogue, tmp_path):
    options = ("--model", "converted", "--model", "published")
    async with worker(tmp_path, tmp_path / "home", catalogue, *options) as started:
        wanted = ("converted/fp32", "published/fp32")
        await started.until(lambda states: all(states[name].state == READY for name in wanted))
        questions = [(picture(1),), (picture(2),), (picture(1), picture(2)), ()]
        answers = [await answer(started, "converted", *pictures) for pictures in questions]
        assert len({text for text, _ in answers}) == len(questions)
        tokens = [usage.prompt_tokens for _, usage in answers]
        assert tokens[0] == tokens[1] > ROWS
        assert tokens[2] > 2 * ROWS
        # The same beside each other, whoever encodes what when; and a split picture is more tiles.
        asking = [answer(started, "converted", *pictures) for pictures in (*questions, *questions[::-1])]
        together = await asyncio.gather(*asking)
        alone = [text for text, _ in answers]
        assert [text for text, _ in together] == alone + alone[::-1]
        split, usage = await answer(started, "converted", picture(1), split=True)
        assert usage.prompt_tokens > 3 * ROWS
        # Published graphs of the same model say the same.
        asking = [answer(started, "published", *pictures) for pictures in questions]
        assert [text for text, _ in await asyncio.gather(*asking)] == alone
        assert (await answer(started, "published", picture(1), split=True))[0] == split
