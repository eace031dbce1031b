"""Image files of all kinds: a right picture or a clear error."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from diplex.errors import InvalidRequest
from workers.runtime.vision import ImageFile, Size, decode, look
from workers.runtime.vision.decoding import MOST_PIXELS

PATH = "chat.messages[0].parts[1].image"
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners():
    """2 x 3 blocks of 16 pixels; only the upper left and the lower right aren't white."""
    picture = Image.new("RGB", (32, 48), WHITE)
    picture.paste(RED, (0, 0, 16, 16))
    picture.paste(BLUE, (16, 32, 32, 48))
    return picture


def file(picture=None, form="PNG", *, data=None, media_type="", **options):
    if data is None:
        written = BytesIO()
        picture.save(written, form, **options)
        data = written.getvalue()
    return ImageFile(data, PATH, media_type)


def at(picture, x, y):
    assert picture.mode == "RGB"
    return picture.getpixel((x, y))


def refusal(broken, function=decode):
    with pytest.raises(InvalidRequest) as raised:
        function(broken)
    (violation,) = raised.value.violations
    assert violation.field.startswith(PATH)
    return violation


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF", "GIF"])
def test_formats(form):
    options = {"lossless": True} if form == "WEBP" else {"quality": 95} if form in {"JPEG", "AVIF"} else {}
    given = file(corners(), form, **options)
    assert look(given) == Size(32, 48)
    picture = decode(given)
    assert picture.size == (32, 48)
    for place, colour in {(4, 4): RED, (28, 44): BLUE, (28, 4): WHITE}.items():
        assert np.abs(np.array(at(picture, *place)) - colour).max() < 30


@pytest.mark.parametrize(
    ("orientation", "red", "size"),
    [
        (1, (0, 0), (32, 48)),
        (2, (31, 0), (32, 48)),
        (3, (31, 47), (32, 48)),
        (4, (0, 47), (32, 48)),
        (5, (0, 0), (48, 32)),
        (6, (47, 0), (48, 32)),
        (7, (47, 31), (48, 32)),
        (8, (0, 31), (48, 32)),
        (9, (0, 0), (32, 48)),
    ],
)
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_pictures_are_put_upright(form, orientation, red, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    given = file(corners(), form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    assert look(given) == Size(*size)
    picture = decode(given)
    assert picture.size == size
    assert np.abs(np.array(at(picture, *red)) - RED).max() < 30


def test_broken_metadata_is_no_reason_to_refuse_a_picture():
    assert at(decode(file(corners(), exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")), 0, 0) == RED


def test_what_shines_through_is_white():
    picture = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    picture.putpixel((0, 0), (*GREEN, 255))
    picture.putpixel((1, 0), (0, 0, 0, 127))
    seen = decode(file(picture))
    assert (at(seen, 0, 0), at(seen, 5, 5)) == (GREEN, WHITE)
    assert 120 < at(seen, 1, 0)[0] < 135


def test_transparent_colours_and_palettes():
    grey = Image.new("L", (8, 8), 7)
    grey.putpixel((0, 0), 200)
    assert at(decode(file(grey, transparency=7)), 4, 4) == WHITE
    assert at(decode(file(grey, transparency=7)), 0, 0) == (200, 200, 200)
    assert at(decode(file(Image.new("RGB", (8, 8), RED), transparency=RED)), 0, 0) == WHITE
    palette = corners().convert("P", palette=Image.Palette.ADAPTIVE)
    assert at(decode(file(palette)), 4, 4) == RED
    assert at(decode(file(Image.new("LA", (8, 8), (9, 0)))), 0, 0) == WHITE


def test_one_bit_and_print_colours():
    assert at(decode(file(Image.new("1", (8, 8), 1))), 0, 0) == WHITE
    assert at(decode(file(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF")), 0, 0) == RED


def test_sixteen_bits_are_scaled_and_not_cut():
    levels = np.array([[0, 257, 32896, 65535]], np.uint16)
    seen = decode(file(Image.fromarray(levels)))
    assert [at(seen, x, 0)[0] for x in range(4)] == [0, 1, 128, 255]
    seen = decode(file(Image.fromarray(levels), "TIFF"))
    assert [at(seen, x, 0)[0] for x in range(4)] == [0, 1, 128, 255]


def test_measurements_are_stretched_to_what_can_be_seen():
    seen = decode(file(Image.fromarray(np.array([[-2.0, 0.0, 2.0]], np.float32)), "TIFF"))
    assert [at(seen, x, 0)[0] for x in range(3)] == [0, 128, 255]
    seen = decode(file(Image.fromarray(np.full((1, 2), 7, np.int32)), "TIFF"))
    assert at(seen, 0, 0) == (0, 0, 0)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_seen(form):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    given = file(frames[0], form, save_all=True, append_images=frames[1:], duration=100)
    assert np.abs(np.array(at(decode(given), 8, 8)) - RED).max() < 10


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF", "GIF"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.97])
def test_truncated_files_are_refused(form, part):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    whole = file(noise, form).data
    violation = refusal(file(data=whole[: int(part * len(whole))]))
    assert "truncated or broken" in violation.description or "format" in violation.description


def test_any_damage_gives_a_picture_or_a_refusal():
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 255, (24, 24, 3)).astype(np.uint8))
    for form in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"):
        whole = np.frombuffer(file(noise, form).data, np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            places = rng.integers(0, len(whole), 4)
            damaged[places] = rng.integers(0, 256, 4)
            for function in (look, decode):
                with suppress(InvalidRequest):
                    function(file(data=damaged.tobytes()))


def png(width, height):
    """A file whose header promises so many pixels, which compress to nothing."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8000, 10_000, 20_000, 65_000])
@pytest.mark.parametrize("function", [look, decode])
def test_bombs_are_refused_by_their_header(side, function):
    assert str(MOST_PIXELS) in refusal(file(data=png(side, side)), function).description


@pytest.mark.parametrize(
    "data",
    [b"x", b"GIF89a", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x89PNG"],
)
def test_what_is_no_picture(data):
    assert refusal(file(data=data)).field == f"{PATH}.data"


def test_what_a_file_is_said_to_be_must_be_true():
    assert look(file(corners(), "JPEG", media_type="image/jpg")) == Size(32, 48)
    assert look(file(corners(), "PNG", media_type="image/PNG; q=1")) == Size(32, 48)
    violation = refusal(file(corners(), "JPEG", media_type="image/png"), look)
    assert violation.field == f"{PATH}.media_type"
    assert "'image/jpeg'" in violation.description
