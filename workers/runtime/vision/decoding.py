"""Image files: what is in one is either a right picture or a clear error.

The header is looked at before anything is decoded, so a file that would unpack to gigabytes costs nothing.
Pillow decodes; only formats whose decoders run inside this process and are in wide use are let in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from diplex.errors import InvalidRequest
from workers.runtime.vision.files import ImageFile
from workers.runtime.vision.preprocessing import Size

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
MOST_PIXELS: Final = 50_000_000
"""Of one picture: 150 MB decoded. Cameras make some 12 to 50 million."""

_ALIASES: Final = {"image/jpg": "image/jpeg", "image/x-ms-bmp": "image/bmp", "image/x-png": "image/png"}
_MULTI_PICTURE: Final = "image/mpo"  # a JPEG file with further pictures behind the first
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation -> what puts the picture upright (CIPA DC-008, table 6)."""
_SIDEWAYS: Final = 5
"""Orientations from here on exchange width and height."""
_STEP_16_TO_8: Final = 257  # 65535 / 255
_WHITE: Final = (255, 255, 255)


def look(file: ImageFile) -> Size:
    """The size of a picture, upright, from its header alone.

    Raises:
        InvalidRequest: It is no picture that can be decoded, or a larger one than is decoded.
    """
    with _opened(file) as image:
        size = Size(*image.size)
        return Size(size.height, size.width) if _orientation(image) >= _SIDEWAYS else size


def decode(file: ImageFile) -> Image.Image:
    """The picture, upright, mode RGB; the first frame of an animation. What shines through is white.

    Raises:
        InvalidRequest: As :func:`look`, or the file is truncated or broken.
    """
    with _opened(file) as image:
        turn = _TURNS.get(_orientation(image))
        try:
            image.load()
            picture = _as_rgb(image)
        except Exception as error:  # whatever a decoder raises, it is about the file
            raise _refused(file, f"can't be decoded, it is truncated or broken: {_said(error)}") from error
    return picture if turn is None else picture.transpose(turn)


@contextmanager
def _opened(file: ImageFile) -> Iterator[Image.Image]:
    """An image of which only the header has been read."""
    try:
        image = Image.open(BytesIO(file.data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise _refused(file, f"is no picture in a format that is known: {', '.join(FORMATS)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _refused(file, f"has more than {MOST_PIXELS} pixels; make it smaller") from error
    except Exception as error:  # whatever a decoder raises, it is about the file
        raise _refused(file, f"can't be read, it is truncated or broken: {_said(error)}") from error
    with image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise _refused(
                file, f"has {width} x {height} pixels, more than {MOST_PIXELS} together; make it smaller"
            )
        if not width * height:
            raise _refused(file, "has no pixels")
        _check_media_type(file, image)
        yield image


def _check_media_type(file: ImageFile, image: Image.Image) -> None:
    found = Image.MIME.get(image.format or "", "")
    if found == _MULTI_PICTURE:
        found = "image/jpeg"
    said = file.media_type.lower().partition(";")[0].strip()
    if said and _ALIASES.get(said, said) != found:
        text = f"is said to be {said[:64]!r} and is {found!r}; leave it empty to have it found"
        raise InvalidRequest.of_field(f"{file.path}.media_type", text)


def _orientation(image: Image.Image) -> int:
    """What is left to be done, as EXIF has it; 1, upright, where it says nothing sensible."""
    if image.format == "TIFF":
        return 1  # Pillow puts these upright by itself
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the picture to look behind it
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001  # metadata may be broken in any way, the picture is fine
        return 1
    return value if value in _TURNS else 1


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _grey((np.asarray(image).astype(np.uint32) + _STEP_16_TO_8 // 2) // _STEP_16_TO_8)
    if image.mode in {"I", "F"}:
        return _grey(_stretched(np.asarray(image, np.float64)).round())
    if image.has_transparency_data:
        picture, background = image.convert("RGBA"), Image.new("RGB", image.size, _WHITE)
        background.paste(picture, mask=picture)
        return background
    return image.convert("RGB")


def _grey(values: NDArray[np.uint32] | NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def _stretched(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the darkest to the brightest, since nothing says what black and white are in such files."""
    values = np.nan_to_num(values)
    low, high = values.min(), values.max()
    stretched: NDArray[np.float64] = (values - low) * (255 / (high - low) if high > low else 0)
    return stretched


def _refused(file: ImageFile, text: str) -> InvalidRequest:
    return InvalidRequest.of_field(f"{file.path}.data", text)


def _said(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
