"""Pictures as callers have them: bytes, files, or images of Pillow, which the SDK itself does without."""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

from diplex.errors import InvalidRequest

_MODES_OF_PNG: Final = frozenset({"1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"})

_SIGNATURES: Final = (
    *(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*"),
    *(bytes((0, 0, 0, size)) + b"ftyp" for size in range(16, 64, 4)),
)
"""How PNG, JPEG, GIF, WebP, BMP, TIFF, AVIF and HEIC begin."""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture in a message."""

    data: bytes = field(repr=False)
    """The encoded picture: PNG, JPEG, WebP, …"""
    media_type: str = ""
    """As ``image/png``. Empty: found from the bytes."""

    @classmethod
    def of(cls, source: ImageLike | bytes | str) -> Image:
        """The picture of whatever holds one.

        Args:
            source: An encoded picture's bytes, the same in base64 or as a data URL, a file's path, an
                ``Image``, or an image of Pillow, which is sent as it is: what its EXIF data says of turning
                is not applied. A string that names a file is a path, whatever else it may be.

        Raises:
            InvalidRequest: The file can't be read, or the source is nothing of that.
        """
        if isinstance(source, Image):
            return source
        if isinstance(source, bytes | bytearray | memoryview):
            return cls(bytes(source))
        if isinstance(source, str):
            return _of_text(source)
        if isinstance(source, os.PathLike):
            return cls(_contents(Path(source)))
        if isinstance(source, PillowImage):
            return cls(_as_png(source), "image/png")
        raise InvalidRequest.of_field(
            "images",
            f"can't be {type(source).__name__}; must be bytes, base64, a path, an Image, or Pillow's",
        )


@runtime_checkable
class PillowImage(Protocol):
    """What is used of ``PIL.Image.Image``."""

    mode: str

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:  # noqa: A002  # Pillow's name
        """Writes it."""

    def convert(self, mode: str | None = None) -> Any:
        """The same in another mode."""


ImageLike: TypeAlias = Image | os.PathLike[str] | PillowImage
"""A picture, or what one can be read from. A plain string is text where text may stand."""


def _of_text(text: str) -> Image:
    if text.startswith("data:"):
        return _of_data_url(text)
    if text.startswith(("http://", "https://")):
        raise InvalidRequest.of_field("images", f"{_short(text)} is not fetched: give the picture's bytes")
    if os.path.isfile(text):  # noqa: PTH113  # Path would raise for what is too long to be a name
        return Image(_contents(Path(text)))
    if (data := _decoded(text)) is not None and data.startswith(_SIGNATURES):
        return Image(data)
    raise InvalidRequest.of_field("images", f"{_short(text)!r} is neither a file nor a picture in base64")


def _of_data_url(text: str) -> Image:
    head, comma, body = text.partition(",")
    media_type, *parameters = head.removeprefix("data:").split(";")
    data = _decoded(body)
    if not comma or "base64" not in parameters or not data:
        raise InvalidRequest.of_field("images", f"{_short(text)!r} is no data URL with base64")
    return Image(data, media_type)


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004  # what fits an error's line


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest.of_field("images", f"{path} can't be read: {error.strerror or error}") from error


def _as_png(picture: PillowImage) -> bytes:
    written = BytesIO()
    (picture if picture.mode in _MODES_OF_PNG else picture.convert("RGB")).save(written, format="PNG")
    return written.getvalue()
