"""Options and inputs to protobuf, and what can't be."""

from io import BytesIO

import pytest
from PIL import Image as PillowImage

from diplex import Backend, Image, Message, RawPrompt, Role, TokenIds, errors
from diplex.client import FinishReason, conversion, requests
from diplex.v1 import generation_pb2 as pb


def request(source, **options):
    return requests.generate_request(source, options)


def test_text_is_one_user_message_behind_the_system_message():
    made = request("hi", system="be brief")
    assert [(m.role, m.parts[0].text) for m in made.chat.messages] == [
        (pb.ROLE_SYSTEM, "be brief"),
        (pb.ROLE_USER, "hi"),
    ]


def test_messages_may_be_objects_or_mappings_and_hold_images():
    made = request(
        [
            Message(Role.USER, ["what is this?", Image(b"\x89PNG", "image/png")]),
            {"role": "assistant", "content": "a cat"},
            {"role": "user", "content": Image(b"x")},
        ]
    )
    first, second, third = made.chat.messages
    assert first.parts[0].text == "what is this?"
    assert first.parts[1].image == pb.Image(data=b"\x89PNG", media_type="image/png")
    assert (second.role, second.parts[0].text) == (pb.ROLE_ASSISTANT, "a cat")
    assert third.parts[0].image.data == b"x"


def test_pictures_come_from_bytes_files_and_pillow(tmp_path):
    file = tmp_path / "a.png"
    picture = PillowImage.new("RGB", (3, 2), (255, 0, 0))
    picture.save(file)
    made = request("what?", images=[b"x", str(file), file, picture, Image(b"y", "image/gif")])
    (message,) = made.chat.messages
    assert [part.image.data for part in message.parts[:3]] == [b"x", file.read_bytes(), file.read_bytes()]
    sent = message.parts[3].image
    assert sent.media_type == "image/png"
    assert PillowImage.open(BytesIO(sent.data)).getpixel((2, 1)) == (255, 0, 0)
    assert message.parts[4].image == pb.Image(data=b"y", media_type="image/gif")
    assert message.parts[5].text == "what?"
    (message,) = request([Message(Role.USER, [file, picture, "what?"])]).chat.messages
    assert [part.WhichOneof("content") for part in message.parts] == ["image", "image", "text"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "P", "RGBA", "CMYK", "YCbCr", "HSV", "F"])
def test_pillows_modes(mode):
    sent = Image.of(PillowImage.new(mode, (3, 2)))
    assert PillowImage.open(BytesIO(sent.data)).size == (3, 2)


def test_pictures_that_are_none(tmp_path):
    with pytest.raises(errors.InvalidRequest, match="can't be read"):
        request("what?", images=[tmp_path / "missing.png"])
    with pytest.raises(errors.InvalidRequest, match="can't be int"):
        request("what?", images=[7])
    with pytest.raises(errors.InvalidRequest) as raised:
        request([Message(Role.USER, ["what?", 7])])
    assert raised.value.violations[0].field == "chat.messages[0].parts[1]"
    with pytest.raises(errors.InvalidRequest, match="only beside a prompt"):
        request([Message(Role.USER, "what?")], images=[b"x"])


def test_how_pictures_are_seen():
    made = request("what?", images=[b"x"], split_images=True, longest_edge=512)
    assert made.image_options == pb.ImageOptions(split=True, longest_edge=512)
    assert not request("what?", images=[b"x"]).HasField("image_options")
    counted = requests.count_request(
        "what?",
        model=None,
        system=None,
        backend=None,
        precision=None,
        token_ids=False,
        images=[b"x"],
        split_images=True,
    )
    assert counted.image_options.split
    assert counted.chat.messages[0].parts[0].image.data == b"x"


def test_no_message_is_left_for_the_server_to_refuse():
    assert request([]).WhichOneof("input") == "chat"


def test_raw_prompt_and_token_ids():
    assert request(RawPrompt("once")).prompt == "once"
    assert list(request(TokenIds([1, 2])).tokens.ids) == [1, 2]
    assert request(TokenIds([])).WhichOneof("input") == "tokens"


def test_unset_is_not_zero():
    made = request("x", temperature=0, top_k=None)
    assert made.sampling.HasField("temperature")
    assert not made.sampling.HasField("top_k")
    assert not made.HasField("stopping")


def test_every_option_has_its_field():
    made = request(
        "x",
        model="m",
        backend="onnx",
        precision="int8",
        temperature=0.5,
        top_k=3,
        top_p=0.5,
        min_p=0.25,
        repetition_penalty=1.5,
        presence_penalty=-1,
        frequency_penalty=1,
        seed=2**63,
        logit_bias={5: -100},
        max_tokens=9,
        min_tokens=1,
        stop=["a", "b"],
        stop_token_ids=[7],
        n=2,
        logprobs=True,
        top_logprobs=4,
        token_ids=True,
        prompt_token_ids=True,
    )
    assert (made.model, made.backend, made.precision) == ("m", pb.BACKEND_ONNX, pb.PRECISION_INT8)
    assert made.sampling == pb.SamplingOptions(
        temperature=0.5,
        top_k=3,
        top_p=0.5,
        min_p=0.25,
        repetition_penalty=1.5,
        presence_penalty=-1,
        frequency_penalty=1,
        seed=2**63,
        logit_bias={5: -100},
    )
    assert made.stopping == pb.StoppingOptions(
        max_tokens=9, min_tokens=1, stop=["a", "b"], stop_token_ids=[7]
    )
    assert made.output == pb.OutputOptions(
        n=2, logprobs=True, top_logprobs=4, token_ids=True, prompt_token_ids=True
    )


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_tokens": -1}, "stopping.max_tokens"),
        ({"temperature": "hot"}, "sampling.temperature"),
        ({"stop": [3]}, "stopping.stop"),
        ({"stop": "one string"}, "stopping.stop"),
        ({"logit_bias": {-1: 2.0}}, "sampling.logit_bias"),
        ({"backend": "tpu"}, "backend"),
        ({"precision": "int3"}, "precision"),
        ({"model": "\ud800"}, "model"),
    ],
)
def test_what_a_message_cant_hold_names_its_field(options, field):
    with pytest.raises(errors.InvalidRequest) as caught:
        request("x", **options)
    assert [violation.field for violation in caught.value.violations] == [field]


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ([{"role": "bob", "content": "x"}], "chat.messages[0].role"),
        ([{"content": "x"}], "chat.messages[0].role"),
        ([{"role": "user", "content": 3}], "chat.messages[0].content"),
        ([{"role": "user", "content": "x", "name": "y"}], "chat.messages[0].name"),
        ([Message("user", ["x", 4])], "chat.messages[0].parts[1]"),
        (TokenIds([-1]), "tokens.ids"),
    ],
)
def test_bad_inputs_name_their_place(source, field):
    with pytest.raises(errors.InvalidRequest) as caught:
        request(source)
    assert [violation.field for violation in caught.value.violations] == [field]


def test_raw_input_takes_no_system_message():
    for source in (RawPrompt("x"), TokenIds([1])):
        with pytest.raises(errors.InvalidRequest, match="system"):
            request(source, system="be brief")


def test_a_ready_made_request_is_sent_as_it_is():
    ready = pb.GenerateRequest(prompt="x")
    assert request(ready) is ready
    with pytest.raises(TypeError, match="temperature"):
        request(ready, temperature=1)


def test_an_unknown_option_is_an_error_of_the_caller():
    with pytest.raises(TypeError, match="temprature"):
        request("x", temprature=1)


def test_numbers_of_a_newer_server_are_unspecified():
    receipt = conversion.receipt(pb.Receipt(backend=99, precision=99))
    assert receipt.backend is Backend.UNSPECIFIED
    assert conversion.finish_reason(99) is FinishReason.UNSPECIFIED


def test_an_answer_without_a_choice_is_a_defect():
    with pytest.raises(errors.InternalError):
        conversion.generation(pb.GenerateResponse())


@pytest.mark.parametrize(
    ("options", "form"),
    [
        ({"json": True}, pb.ResponseFormat(json=pb.JsonFormat())),
        ({"json": False}, None),
        ({"json_schema": {"type": "null"}}, pb.ResponseFormat(json_schema='{"type": "null"}')),
        ({"json_schema": "true"}, pb.ResponseFormat(json_schema="true")),
        ({"regex": "a+"}, pb.ResponseFormat(regex="a+")),
        ({"grammar": "start: A"}, pb.ResponseFormat(grammar="start: A")),
    ],
)
def test_formats(options, form):
    output = requests.generate_request("hi", options).output
    assert output.HasField("response_format") == (form is not None)
    if form is not None:
        assert output.response_format == form


def test_two_formats_are_refused():
    with pytest.raises(errors.InvalidRequest) as raised:
        requests.generate_request("hi", {"regex": "a", "json": True})
    assert [violation.field for violation in raised.value.violations] == ["regex"]


def test_truncate():
    assert requests.generate_request("hi", {"truncate": True}).truncation == (
        pb.TRUNCATION_POLICY_DROP_OLDEST_TURNS
    )
