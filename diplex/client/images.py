"""Pictures as callers have them: bytes, files, or images of Pillow, which the SDK itself does without."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

from diplex.errors import InvalidRequest

_MODES_OF_PNG: Final = frozenset({"1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"})


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
            source: An encoded picture's bytes, a file's path, an ``Image``, or an image of Pillow, which is
                sent as it is: what its EXIF data says of turning is not applied.

        Raises:
            InvalidRequest: The file can't be read, or the source is nothing of that.
        """
        if isinstance(source, Image):
            return source
        if isinstance(source, bytes | bytearray | memoryview):
            return cls(bytes(source))
        if isinstance(source, str | os.PathLike):
            return cls(_contents(Path(source)))
        if isinstance(source, PillowImage):
            return cls(_as_png(source), "image/png")
        raise InvalidRequest.of_field(
            "images",
            f"can't be {type(source).__name__}; must be bytes, a path, an Image, or an image of Pillow",
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


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest.of_field("images", f"{path} can't be read: {error.strerror or error}") from error


def _as_png(picture: PillowImage) -> bytes:
    written = BytesIO()
    (picture if picture.mode in _MODES_OF_PNG else picture.convert("RGB")).save(written, format="PNG")
    return written.getvalue()
