"""The small seeing model behind gateway and worker: what is drawn is what is said."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO

import pytest
from PIL import Image as PillowImage

from diplex import Image, Message, Role, errors
from tests.e2e import services
from tools.seeing.drawings import HELD_OUT, KINDS, draw

MODEL = "seeing"
FIRST = HELD_OUT + 20_000
GREEDY = {"model": MODEL, "temperature": 0, "max_tokens": 40}
WHOLE_TOKENS, SPLIT_TOKENS = 4, 20


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    options = ("--model", MODEL, "--home", home)
    with services.stack(tmp_path_factory.mktemp("stack"), *options) as both:
        yield both


@pytest.fixture(scope="module")
def client(seeing):
    with seeing.client() as client:
        yield client


def drawing(kind, number=0):
    return draw(FIRST + number, kind, square=True)


def encoded(picture, form="PNG"):
    written = BytesIO()
    picture.save(written, form)
    return written.getvalue()


@pytest.mark.parametrize("split", [None, True])
def test_names_what_is_drawn(client, split):
    said = {
        kind: client.generate(
            "What is in this image?", images=[drawing(kind).image], split_images=split, **GREEDY
        )
        for kind in KINDS
    }
    assert [kind for kind, generation in said.items() if kind in generation.text] == list(KINDS)
    tokens = {generation.receipt.usage.image_tokens for generation in said.values()}
    assert tokens == {SPLIT_TOKENS if split else WHOLE_TOKENS}


def test_two_pictures_are_told_in_their_order(client):
    def said(*kinds):
        pictures = [drawing(kind, 1).image for kind in kinds]
        return client.generate([Message(Role.USER, [*pictures, "What is in these images?"])], **GREEDY).text

    for kinds in (("pizza", "car"), ("car", "pizza")):
        text = said(*kinds)
        assert text.index(kinds[0]) < text.index(kinds[1])


def test_a_later_turn_is_about_the_same_picture(client):
    picture = drawing("house", 2)
    asked = [Message(Role.USER, [picture.image, "What is in this image?"])]
    answer = client.generate(asked, **GREEDY)
    asked += [Message(Role.ASSISTANT, answer.text), Message(Role.USER, "What color is the background?")]
    second = client.generate(asked, **GREEDY)
    assert picture.background in second.text
    assert answer.receipt.usage.cached_image_tokens == 0
    assert second.receipt.usage.cached_image_tokens == second.accepted.cached_image_tokens == WHOLE_TOKENS
    assert second.receipt.usage.cached_prompt_tokens > answer.receipt.usage.prompt_tokens - 1


def test_a_picture_is_known_again_behind_other_words(client):
    picture = drawing("cat", 3).image
    first = client.generate("What is in this image?", images=[picture], **GREEDY)
    again = client.generate([Message(Role.USER, ["Look at this: ", picture, "What do you see?"])], **GREEDY)
    assert (first.accepted.cached_image_tokens, again.accepted.cached_image_tokens) == (0, WHOLE_TOKENS)
    assert "cat" in first.text


def test_without_a_picture(client):
    generation = client.generate("Hello", **GREEDY)
    assert generation.text.strip() == "Please show me a picture."
    assert generation.receipt.usage.image_tokens == 0


def test_tokens_are_counted_as_they_are_used(client):
    picture = drawing("apple", 4).image
    for split in (None, True):
        counted = client.count_tokens("What is this?", model=MODEL, images=[picture], split_images=split)
        used = client.generate("What is this?", images=[picture], split_images=split, **GREEDY).receipt.usage
        assert (counted.tokens, counted.image_tokens) == (used.prompt_tokens, used.image_tokens)


def test_formats_and_turned_pictures(client):
    picture = drawing("burger", 5).image
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    turned = BytesIO()
    picture.transpose(PillowImage.Transpose.ROTATE_90).save(turned, "JPEG", exif=exif, quality=95)
    files = [turned.getvalue(), encoded(picture, "WEBP"), encoded(picture.convert("RGBA"))]
    for data in files:
        assert "burger" in client.generate("What is in this image?", images=[data], **GREEDY).text


@pytest.mark.parametrize(
    ("data", "media_type", "told"),
    [
        (b"no picture", "", "format"),
        (encoded(PillowImage.new("RGB", (64, 64)))[:-40], "", "truncated or broken"),
        (encoded(PillowImage.new("1", (9000, 9000))), "", "pixels"),
        (encoded(PillowImage.new("RGB", (8, 8))), "image/jpeg", "is said to be"),
        (b"", "", "is empty"),
        (b"x" * (20 * 2**20 + 1), "", "bytes"),
    ],
)
def test_bad_pictures_are_refused_and_the_next_is_seen(client, data, media_type, told):
    with pytest.raises(errors.InvalidRequest) as raised:
        client.generate("What is in this image?", images=[Image(data, media_type)], **GREEDY)
    (violation,) = raised.value.violations
    assert violation.field.startswith("chat.messages[0].parts[0].image.")
    assert told in violation.description
    assert "car" in client.generate("What is in this image?", images=[drawing("car", 6).image], **GREEDY).text


def test_images_are_refused_for_raw_prompts_and_options_without_images(client):
    with pytest.raises(errors.InvalidRequest) as raised:
        client.generate("Hello", split_images=True, **GREEDY)
    assert [violation.field for violation in raised.value.violations] == ["image_options"]
    with pytest.raises(errors.InvalidRequest) as raised:
        client.generate("What?", images=[drawing("car").image], longest_edge=4000, **GREEDY)
    assert [violation.field for violation in raised.value.violations] == ["image_options.longest_edge"]


def test_the_command_line(seeing, tmp_path):
    drawing("pizza", 7).image.save(tmp_path / "lunch.jpg", quality=95)
    argv = [sys.executable, "-m", "diplex.cli", "generate", "What is in this image?", "--model", MODEL]
    argv += ["--image", str(tmp_path / "lunch.jpg"), "--temperature", "0"]
    env = services.environment(DIPLEX_ADDRESS=seeing.address)
    spoken = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=env, check=False)
    assert spoken.returncode == 0, spoken.stderr
    assert "pizza" in spoken.stdout


def test_the_pizza_test(seeing):
    argv = [sys.executable, "-m", "tools.pizza", "--address", seeing.address]
    told = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=120,
        env=services.environment(),
        cwd=services.ROOT,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "pizzas at 10: 20 of 20" in told.stdout or "pizzas at 10: 19 of 20" in told.stdout
