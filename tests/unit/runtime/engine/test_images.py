"""Requests with pictures through the whole engine. Features are sums of what fake eyes really saw."""

from __future__ import annotations

import threading
from io import BytesIO
from queue import SimpleQueue

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diplex.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    QueueFull,
    ResourceExhausted,
    UnsupportedFeature,
)
from tests.engine_run import GREEDY, Run
from tests.fake_backend import (
    SEEING_TEMPLATE,
    VISION,
    FakeBackend,
    FakeEyes,
    byte_tokenizer,
    fake_description,
    seeing_tokenizer,
)
from workers.runtime.engine import loop
from workers.runtime.engine.intake import Closed, Encoded, Intake, Unencodable
from workers.runtime.engine.messages import Admitted, Cancel, Count, Counted, EngineConfig, Submit
from workers.runtime.engine.model_text import ModelText
from workers.runtime.engine.pacing import STREAMS_PER_TILE, TilePacing
from workers.runtime.engine.scheduler import Limits
from workers.runtime.generation import Chat, Generation, ImageTokens, Output, Stopping
from workers.runtime.sampling import SamplingParams
from workers.runtime.vision import Gallery, ImageFile, ImageOptions, Viewer

TOKENIZER = seeing_tokenizer()
IMAGE = VISION.image_token_id
LENGTH = 200
WHOLE = ImageOptions()
SPLIT = ImageOptions(split=True, longest_edge=16)  # of a square: four tiles and the whole
ROWS, TILES = VISION.tile_rows, 5


def png(colour, size=(8, 8)):
    written = BytesIO()
    Image.new("RGB", size, colour).save(written, "PNG")
    return written.getvalue()


RED, BLUE = png((255, 0, 0)), png((0, 0, 255))


def chat(*parts, images=WHOLE):
    """One user message; bytes are pictures."""
    return Chat(({"role": "user", "content": content(*parts)},), images=images)


def content(*parts):
    return [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image", "image": ImageFile(part, f"chat.messages[0].parts[{i}].image")}
        for i, part in enumerate(parts)
    ]


class Seeing:
    """An engine with eyes and what stands before it."""

    def __init__(self, *, budget=10_000, backend=None, **config):
        self.eyes = FakeEyes()
        self.backend = backend or FakeBackend(slots=8, max_length=LENGTH, eyes=self.eyes)
        self.gallery = Gallery(budget, self.eyes.row_bytes)
        description = fake_description(vision=VISION, chat_template=SEEING_TEMPLATE, context_length=LENGTH)
        self.text = ModelText(TOKENIZER, description, Viewer(self.eyes.preprocessor, self.gallery))
        self.sent = SimpleQueue()
        self.intake = Intake(self.text, max_length=LENGTH, inbox=SimpleQueue(), send=self.sent.put)
        settings = {"slots": 4, "prefill_chunk": 8, "shared_prefill_chunk": 4} | config
        self.run = Run(self.backend, EngineConfig(None, **settings), text=self.text)

    def encoded(self, number, given, *, sampling=GREEDY, truncate=False, output=None, **stopping):
        generation = Generation(
            given, sampling, Stopping(**stopping), output=output or Output(), truncate=truncate
        )
        self.intake.take(Submit(number, generation))
        self.intake.inbox.get(timeout=10)
        return self.intake.inbox.get(timeout=10)

    def __call__(self, *items):
        return self.run(*items)


def alone(given, **stopping):
    seeing = Seeing()
    return seeing(seeing.encoded(1, given, **stopping)).tokens(1)


def test_a_picture_stands_in_the_prompt_where_it_was_put():
    seeing = Seeing()
    request = seeing.encoded(1, chat("a", RED, "b"), max_tokens=3)
    told = seeing.text.told(request.prompt_ids)
    assert TOKENIZER.decode(told, skip_special_tokens=False) == "a[:<|image|><|image|>[b"
    assert [token for token in request.prompt_ids if token < 0] == list(request.pictures[0].ids)
    run = seeing(request)
    (admitted,) = [message for message in run.sent if isinstance(message, Admitted)]
    assert admitted.prompt_ids == told
    assert admitted.image_tokens == run.finish(1).image_tokens == ImageTokens(ROWS, 0)
    assert run.finish(1).prompt_tokens == len(told)


def test_what_is_seen_decides_what_is_said():
    said = [alone(chat(picture, "What?"), max_tokens=8) for picture in (RED, BLUE, RED)]
    assert said[0] == said[2] != said[1]
    assert alone(chat(RED, BLUE), max_tokens=8) != alone(chat(BLUE, RED), max_tokens=8)
    assert alone(chat(RED, "?"), max_tokens=8) != alone(chat("?", RED), max_tokens=8)


def test_text_alone_needs_no_eyes():
    seeing = Seeing()
    run = seeing(seeing.encoded(1, chat("Hello"), max_tokens=4))
    assert len(run.tokens(1)) == 4
    assert seeing.eyes.tiles == 0
    plain = Chat(({"role": "user", "content": "Hello"},))  # not in parts
    assert alone(plain, max_tokens=4) == run.tokens(1)


def test_the_second_question_needs_no_eyes():
    seeing = Seeing()
    first = seeing.encoded(1, chat(RED, "What?"), max_tokens=4)
    seeing(first)
    second = seeing.encoded(2, chat("Where is ", RED, "?"), max_tokens=4)
    assert second.image_tokens == ImageTokens(ROWS, ROWS)
    seeing.run(second)
    assert seeing.eyes.tiles == 1
    assert seeing.run.tokens(2) == alone(chat("Where is ", RED, "?"), max_tokens=4)


def test_the_prefix_cache_knows_pictures_apart():
    """Long beginnings that differ in nothing but the picture."""
    seeing = Seeing()
    asked = [chat("Look at this picture: ", data, " What is it?") for data in (RED, BLUE, RED)]
    for number, question in enumerate(asked, 1):
        seeing(seeing.encoded(number, question, max_tokens=5))
        assert seeing.run.tokens(number) == alone(question, max_tokens=5)
    before, behind = (len(TOKENIZER.encode(text)) for text in ("Look at this picture: [:", "[ What is it?"))
    cached = [seeing.run.finish(number).cached_tokens for number in (1, 2, 3)]
    assert cached == [0, before, before + ROWS + behind - 1]


def test_one_tile_a_step_and_streams_go_on_meanwhile():
    seeing = Seeing()
    stream = seeing.encoded(1, chat("Go on"), max_tokens=120)
    seeing.run.at_step[5] = [seeing.encoded(2, chat(png((9, 9, 9), (32, 32)), images=SPLIT), max_tokens=3)]
    run = seeing(stream)
    encoding = [index for index, plan in enumerate(run.backend.plans) if plan.encode]
    assert len(encoding) == TILES == seeing.eyes.tiles
    for index in encoding:
        assert [row.sequence for row in run.backend.plans[index].rows] == [1]
    prefilled = [i for i, plan in enumerate(run.backend.plans) if not plan.encode and 2 in plan.sequences]
    assert prefilled[0] > encoding[-1]
    assert run.tokens(1) == alone(chat("Go on"), max_tokens=120)
    assert run.tokens(2) == alone(chat(png((9, 9, 9), (32, 32)), images=SPLIT), max_tokens=3)


def test_choices_share_a_picture():
    seeing = Seeing()
    warm = SamplingParams(temperature=1.0, seed=3)
    request = seeing.encoded(1, chat(RED, "?"), sampling=warm, output=Output(choices=3), max_tokens=6)
    run = seeing(request)
    assert seeing.eyes.tiles == 1
    assert len({tuple(run.tokens(1, choice)) for choice in range(3)}) == 3
    assert request.pictures[0].pins == 0


def test_a_picture_that_two_ask_about_at_once_is_encoded_once():
    seeing = Seeing()
    picture = png((1, 2, 3), (32, 32))
    requests = [
        seeing.encoded(n, chat(picture, text, images=SPLIT), max_tokens=4) for n, text in ((1, "a"), (2, "b"))
    ]
    run = seeing(*requests)
    assert seeing.eyes.tiles == TILES
    for number, text in ((1, "a"), (2, "b")):
        assert run.tokens(number) == alone(chat(picture, text, images=SPLIT), max_tokens=4)


@pytest.mark.parametrize("step", [1, 3, TILES, TILES + 2])
def test_cancelled_while_its_picture_is_encoded(step):
    seeing = Seeing()
    request = seeing.encoded(1, chat(png((9, 9, 9), (32, 32)), images=SPLIT), max_tokens=50)
    other = seeing.encoded(2, chat("Go on"), max_tokens=60)
    seeing.run.at_step[step] = [Cancel(1)]
    run = seeing(request, other)
    assert run.tokens(2) == alone(chat("Go on"), max_tokens=60)
    assert request.pictures[0].pins == 0
    if step < TILES:
        assert seeing.eyes.tiles < TILES
        assert not seeing.eyes.rows
        assert seeing.gallery.kept == 0
    assert run.loads()[-1] == (0, 0)


def test_refused_and_overtaken_requests_let_go_of_their_pictures():
    seeing = Seeing(slots=1, max_queue=0)
    first, second = (seeing.encoded(n, chat(data), max_tokens=9) for n, data in ((1, RED), (2, BLUE)))
    run = seeing(first, second)
    assert isinstance(run.refusal(2), QueueFull)
    assert [request.pictures[0].pins for request in (first, second)] == [0, 0]
    assert len(seeing.eyes.rows) == ROWS


def test_features_that_are_in_nobodys_way_stay_and_others_go():
    seeing = Seeing(budget=2 * ROWS * FakeEyes.row_bytes)
    pictures = [png((10 * n, 0, 0)) for n in range(5)]
    for number, data in enumerate(pictures):
        seeing(seeing.encoded(number, chat(data), max_tokens=2))
    seeing(seeing.encoded(9, chat(pictures[-1]), max_tokens=2))
    assert seeing.eyes.tiles == 5
    assert len(seeing.eyes.rows) == 2 * ROWS


def test_a_preempted_sequence_still_has_its_picture():
    """The memory holds one and a half of them; the features nobody else's."""
    items = [chat(data, "abcdefgh") for data in (RED, BLUE)]
    seeing = Seeing(slots=2, kv_mib=0)
    seeing.run = Run(
        seeing.backend,
        EngineConfig(None, slots=2, prefill_chunk=8),
        text=seeing.text,
        limits=Limits(2, 2, LENGTH, LENGTH, 0),
    )
    run = seeing(*(seeing.encoded(n, item, max_tokens=150) for n, item in enumerate(items, 1)))
    for number, item in enumerate(items, 1):
        assert run.tokens(number) == alone(item, max_tokens=150)


def test_features_are_given_back_in_idle_time(monkeypatch):
    monkeypatch.setattr(loop, "_TRIM_SECONDS", 0.001)
    seeing = Seeing(cache_idle_seconds=0.001)
    forget, forgotten = seeing.eyes.forget, threading.Event()

    def watched(ids):
        forget(ids)
        forgotten.set()

    seeing.eyes.forget = watched
    seeing.run.at_step[10**6] = []  # so that the inbox stays open
    seeing.run.put(seeing.encoded(1, chat(RED), max_tokens=2))
    running = threading.Thread(target=seeing.run.engine.run)
    running.start()
    try:
        assert forgotten.wait(10)
    finally:
        seeing.run.inbox.put(Closed())
        running.join()
    assert not seeing.eyes.rows
    assert seeing.gallery.kept == 0


# ------------------------------------------------------------------------------------------ refusals


def refusal(item, kind=InvalidRequest):
    assert isinstance(item, Unencodable)
    assert isinstance(item.error, kind)
    return item.error.violations[0]


def test_a_broken_picture_is_refused_and_the_others_are_let_go():
    seeing = Seeing()
    half = png((1, 2, 3), (64, 64))[:-30]
    assert refusal(seeing.encoded(1, chat(RED, half))).field == "chat.messages[0].parts[1].image.data"
    seeing.gallery.clear()
    assert seeing.gallery.kept == 0


def test_without_eyes_pictures_are_refused():
    text = ModelText(byte_tokenizer(), fake_description(chat_template=SEEING_TEMPLATE))
    with pytest.raises(UnsupportedFeature) as raised:
        text.encode(chat(RED))
    assert raised.value.violations[0].field == "chat.messages[0].parts[0].image"


def test_a_template_without_a_place_for_pictures():
    seeing = Seeing()
    seeing.text._template = ModelText(
        TOKENIZER, fake_description(chat_template="{{ messages[0].content[0].text }}")
    )._template
    assert "places for 0 of its 1 images" in refusal(seeing.encoded(1, chat("a", RED))).description


def test_an_image_token_that_a_user_writes_stays_text():
    seeing = Seeing()
    request = seeing.encoded(1, chat("<|image|> ", RED, "[:<|image|>"), max_tokens=1)
    assert sum(token < 0 for token in request.prompt_ids) == ROWS
    assert IMAGE not in request.prompt_ids
    written = TOKENIZER.decode(seeing.text.told(request.prompt_ids), skip_special_tokens=False)
    assert written == "<|image|> [:<|image|><|image|>[[:<|image|>"


def test_more_pictures_than_the_context_holds():
    seeing = Seeing()
    request = seeing.encoded(1, chat(*[png((n, 0, 0), (32, 32)) for n in range(5)], images=SPLIT))
    refusal(request, ContextLengthExceeded)
    assert seeing.gallery.kept == 0


def test_of_a_conversation_that_is_too_long_the_oldest_pictures_go():
    seeing = Seeing()
    turns = [
        message
        for n in range(4)
        for message in (
            {"role": "user", "content": content(png((n, 0, 0), (32, 32)), f"turn {n}")},
            {"role": "assistant", "content": "yes"},
        )
    ][:-1]
    request = seeing.encoded(1, Chat(tuple(turns), images=SPLIT), truncate=True, max_tokens=9)
    assert isinstance(request, Encoded)
    kept = 2
    assert (len(request.pictures), request.dropped) == (kept, 2 * (4 - kept))
    names = [token for token in request.prompt_ids if token < 0]
    assert names == [name for picture in request.pictures for name in picture.ids]
    assert seeing.gallery.kept == kept * TILES * ROWS * FakeEyes.row_bytes


def test_counting_needs_no_eyes():
    seeing = Seeing()
    seeing.intake.take(Count(1, chat("a", png((0, 0, 0), (32, 32)), images=SPLIT)))
    counted = seeing.sent.get(timeout=10)
    assert isinstance(counted, Counted)
    assert counted.ids.count(IMAGE) == TILES * ROWS
    assert seeing.gallery.kept == 0


def test_options_that_the_model_has_not_are_refused():
    item = Seeing().encoded(1, chat(RED, images=ImageOptions(longest_edge=33)))
    assert refusal(item).field == "image_options.longest_edge"


def test_penalties_take_a_picture_for_the_image_token():
    seeing = Seeing()
    request = seeing.encoded(
        1, chat(RED, "ab"), sampling=SamplingParams(temperature=0, repetition_penalty=5.0), max_tokens=20
    )
    assert len(set(seeing(request).tokens(1))) == 20  # nothing of the prompt's or its own comes twice


# ------------------------------------------------------------------------------------------- any order

ASKED = st.tuples(
    st.lists(st.sampled_from(["hello", "x", RED, BLUE]), min_size=1, max_size=3),
    st.booleans(),  # split
    st.integers(1, 20),  # tokens
    st.integers(1, 40),  # the step in which it comes
    st.integers(1, 99),  # the step in which it is cancelled, if it comes before that
)


@given(st.lists(ASKED, max_size=6), st.integers(4, 100))
@settings(max_examples=40, deadline=None)
def test_whatever_comes_nothing_is_mixed_up_and_nothing_stays_behind(asked, tiles):
    """The budget may hold as little as what is needed at once: then some are refused, and none is wrong."""
    seeing = Seeing(budget=tiles * ROWS * FakeEyes.row_bytes)
    requests, cancelled = {}, set()
    for number, (parts, split, most, step, cancel) in enumerate(asked, 1):
        question = chat(*parts, images=SPLIT if split else WHOLE)
        request = seeing.encoded(number, question, max_tokens=most)
        requests[number] = request, question, most
        seeing.run.at_step.setdefault(step, []).append(request)
        if cancel > step:
            seeing.run.at_step.setdefault(cancel, []).append(Cancel(number))
            cancelled.add(number)
    run = seeing(seeing.encoded(100, chat("on and on"), max_tokens=150))
    for number, (request, question, most) in requests.items():
        if isinstance(request, Unencodable):
            assert isinstance(request.error, QueueFull | ResourceExhausted | ContextLengthExceeded)
            continue
        expected, got = alone(question, max_tokens=most), run.tokens(number)
        assert got == expected if number not in cancelled else got == expected[: len(got)]
        assert all(picture.pins == 0 for picture in request.pictures)
    assert run.tokens(100) == alone(chat("on and on"), max_tokens=150)
    streaming = [plan for plan in run.backend.plans if plan.encode and plan.rows]
    assert all(len(plan.encode.ids) == ROWS for plan in streaming)


# --------------------------------------------------------------------------------------------- pacing


def test_streams_get_a_multiple_of_a_tiles_time_before_the_next():
    pacing = TilePacing()
    assert pacing.allows(decoding=4)
    pacing.encoded(0.5)
    waited = 0.0
    while not pacing.allows(decoding=4):
        pacing.stepped(0.1)
        waited += 0.1
    assert waited == pytest.approx(0.5 * STREAMS_PER_TILE, abs=0.11)


def test_where_nobody_streams_tiles_follow_one_another():
    pacing = TilePacing()
    pacing.encoded(0.5)
    assert pacing.allows(decoding=0)
    assert not pacing.allows(decoding=1)
