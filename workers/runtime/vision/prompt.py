"""Pictures in a conversation: out of its messages, and into its token ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from diplex.errors import InvalidRequest
from workers.runtime.vision.files import ImageFile
from workers.runtime.vision.gallery import Picture
from workers.runtime.vision.preprocessing import Layout

Messages = Sequence[Mapping[str, object]]


def image_files(messages: Messages) -> list[ImageFile]:
    """The pictures of a conversation in their order."""
    return [part["image"] for message in messages for part in _image_parts(message)]


def in_parts(messages: Messages) -> list[Mapping[str, object]]:
    """The conversation as templates of models with eyes expect it: every content a list of parts.

    A picture's part says only that there is one.
    """
    return [{**message, "content": _parts(message.get("content"))} for message in messages]


def expanded(rendered: str, mark: str, layouts: Sequence[Layout]) -> str:
    """A rendered conversation with what stands for its pictures.

    Args:
        rendered: With one ``mark`` a picture. Nothing that a user wrote spells it.
        mark: Text of the token that the template puts there.
        layouts: Of the pictures, in their order.

    Raises:
        InvalidRequest: The template has put more or fewer marks than there are pictures.
    """
    before, *behind = rendered.split(mark)
    if len(behind) != len(layouts):
        raise InvalidRequest.of_field(
            "chat", f"the model's chat template has places for {len(behind)} of its {len(layouts)} images"
        )
    return before + "".join(layout.text + text for layout, text in zip(layouts, behind, strict=True))


def placed(
    ids: Sequence[int], image_token_id: int, pictures: Sequence[Picture], marks: int = 0
) -> tuple[int, ...]:
    """Token ids in which every image token names the row of features that it stands for.

    Args:
        ids: Of a prompt.
        image_token_id: The image token.
        pictures: Those that it shows.
        marks: How many image tokens before each picture's rows only say that it begins.
    """
    kept = [image_token_id] * marks
    names = (name for picture in pictures for name in (*kept, *picture.ids))
    return tuple(next(names) if token == image_token_id else token for token in ids)


def without_names(ids: Sequence[int], image_token_id: int) -> tuple[int, ...]:
    """Token ids as others know them: the image token in the place of every row of features."""
    return tuple(image_token_id if token < 0 else token for token in ids)


def _image_parts(message: Mapping[str, object]) -> Iterator[Mapping[str, ImageFile]]:
    content = message.get("content")
    if not isinstance(content, str) and isinstance(content, Sequence):
        yield from (part for part in content if part["type"] == "image")


def _parts(content: object) -> Sequence[Mapping[str, object]]:
    if isinstance(content, str) or not isinstance(content, Sequence):
        return [{"type": "text", "text": content or ""}]
    return [{"type": "image"} if part["type"] == "image" else part for part in content]
