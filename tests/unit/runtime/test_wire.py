"""From a gateway's message to what the engine gets."""

from __future__ import annotations

import dataclasses
import time

import pytest

from diplex.errors import UnsupportedFeature
from diplex.v1 import generation_pb2 as pb
from diplex.worker.v1 import worker_pb2
from workers.runtime import wire
from workers.runtime.catalogue import Capability, Catalogue
from workers.runtime.engine.messages import Piece
from workers.runtime.supervisor.names import Names
from workers.runtime.vision import ImageFile, ImageOptions


@pytest.fixture
def entry():
    return Catalogue.load().find("SmolLM2-135M-Instruct").entry


def test_who_asks_and_until_when_reach_the_engine(entry):
    message = worker_pb2.GenerateRequest(request=pb.GenerateRequest(prompt="Hi"), client="me")
    before = time.monotonic()
    generation = wire.generation(message, entry, timeout=30.0)
    assert generation.client == "me"
    assert before + 30 <= generation.deadline <= time.monotonic() + 30
    assert wire.generation(message, entry, timeout=None).deadline is None


@pytest.mark.parametrize("with_ids", [False, True])
def test_a_token_that_comes_to_no_text_yet_is_told(entry, with_ids):
    message = worker_pb2.GenerateRequest(request=pb.GenerateRequest(prompt="Hi"))
    told = wire.Told(wire.generation(message, entry, timeout=None), with_ids=with_ids)
    responses = [
        response
        for piece in (Piece(1, "", (195,)), Piece(1, "é!", (169, 33)))
        for response in told.piece(piece)
    ]
    deltas = [pb.GenerateStreamResponse.FromString(response.event).delta for response in responses]
    assert [(delta.text, delta.tokens) for delta in deltas] == [("", 1), ("é!", 2)]
    assert [list(delta.token_ids) for delta in deltas] == ([[195], [169, 33]] if with_ids else [[], []])
    assert [list(response.token_ids) for response in responses] == [[195], [169, 33]]


# ---------------------------------------------------------------------------- models of other backends


def test_watchers_hear_of_models_that_only_others_serve():
    lacking = {entry.name: wire.unserved(entry, "onnx") for entry in Names(Catalogue.load(), "onnx").unserved}
    assert "SmolLM2-135M-Instruct" not in lacking
    llava = lacking["llava-1.5-7b"]
    assert list(llava.backends) == [pb.BACKEND_TORCH]
    assert llava.reason == "the onnx worker has no form of it; the catalogue has it for torch"


def test_what_no_backend_serves_yet_is_told_as_such():
    cogvlm = wire.unserved(Catalogue.load().find("CogVLM-chat").entry, "onnx")
    assert not cogvlm.backends
    assert "can't be served yet: torch: it needs code of its publisher" in cogvlm.reason


# --------------------------------------------------------------------------------------------- images

SEES = pb.ChatInput(
    messages=[
        pb.ChatMessage(
            role=pb.ROLE_SYSTEM, parts=[pb.ContentPart(text="Be"), pb.ContentPart(text=" brief.")]
        ),
        pb.ChatMessage(
            role=pb.ROLE_USER,
            parts=[
                pb.ContentPart(text="Is "),
                pb.ContentPart(image=pb.Image(data=b"1", media_type="image/png")),
                pb.ContentPart(text=" like "),
                pb.ContentPart(image=pb.Image(data=b"2")),
            ],
        ),
    ]
)


@pytest.fixture
def seeing(entry):
    return dataclasses.replace(entry, capabilities=entry.capabilities | {Capability.IMAGES})


def test_parts_keep_their_order_and_images_know_their_field(seeing):
    options = pb.ImageOptions(split=True, longest_edge=512)
    chat = wire.model_input(pb.GenerateRequest(chat=SEES, image_options=options), seeing)
    system, user = chat.messages
    assert system["content"] == "Be brief."
    assert user["content"] == [
        {"type": "text", "text": "Is "},
        {"type": "image", "image": ImageFile(b"1", "chat.messages[1].parts[1].image", "image/png")},
        {"type": "text", "text": " like "},
        {"type": "image", "image": ImageFile(b"2", "chat.messages[1].parts[3].image")},
    ]
    assert chat.images == ImageOptions(split=True, longest_edge=512)
    counted = wire.model_input(pb.CountTokensRequest(chat=SEES), seeing)
    assert counted.images == ImageOptions()


def test_a_model_without_eyes_names_each_image(entry):
    with pytest.raises(UnsupportedFeature) as raised:
        wire.model_input(pb.GenerateRequest(chat=SEES), entry)
    fields = [violation.field for violation in raised.value.violations]
    assert fields == ["chat.messages[1].parts[1].image", "chat.messages[1].parts[3].image"]


def test_tools_are_told_of_beside_images(seeing):
    request = pb.GenerateRequest(
        chat=SEES,
        tools=[pb.Tool(name="add")],
        tool_choice=pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_REQUIRED, constrained=True),
    )
    generation = wire.generation(worker_pb2.GenerateRequest(request=request), seeing, timeout=None)
    system, user = generation.input.messages
    assert system["content"].startswith("Be brief.\n\nYou can call functions.")
    assert [part["type"] for part in user["content"]] == ["text", "image", "text", "image"]
