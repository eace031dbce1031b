"""How a model is named that no catalogue knows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from diplex.errors import InvalidRequest

PREFIX: Final = "hf:"
_PART: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HUB: Final = re.compile(
    rf"hf:(?P<repository>{_PART}/{_PART})(@(?P<revision>[A-Za-z0-9._-]+))?"
    rf"(/(?P<file>{_PART}(/{_PART})*\.gguf))?(/(?P<profile>[A-Za-z0-9_]+))?"
)


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository of a model hub, or a GGUF file in it."""

    repository: str
    """``owner/name``."""
    revision: str | None = None
    """A commit, branch or tag; ``None`` for the newest."""
    file: str | None = None
    """Path of a GGUF file in it; ``None`` for the repository as a whole."""
    profile: str | None = None
    """The precision profile that is asked for beside."""

    @property
    def name(self) -> str:
        """The model's name, without the profile."""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{PREFIX}{self.repository}{revision}" + (f"/{self.file}" if self.file else "")


@dataclass(frozen=True, slots=True)
class DiskName:
    """A GGUF file or a folder on this machine."""

    path: Path
    """Absolute."""
    profile: str | None = None
    """The precision profile that is asked for beside."""

    @property
    def name(self) -> str:
        """The model's name, without the profile."""
        stem = self.path.name.removesuffix(".gguf")
        return "local:" + (re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "model")


def parse(text: str) -> HubName | DiskName | None:
    """What a name means if it is none of a catalogue; ``None`` if it looks like one of those.

    Hub: ``hf:OWNER/NAME[@REVISION][/FILE.gguf][/PROFILE]``. Paths begin with ``.``, ``/`` or ``~``, or end
    with ``.gguf``; a profile may follow behind a slash.

    Raises:
        InvalidRequest: It begins like a hub's name and is none.
    """
    if text.startswith(PREFIX):
        match = _HUB.fullmatch(text)
        if match is None:
            what = f"{text!r} names no repository; write hf:OWNER/NAME, hf:OWNER/NAME@REVISION or "
            raise InvalidRequest.of_field("model", what + "hf:OWNER/NAME/FILE.gguf")
        return HubName(match["repository"], match["revision"], match["file"], match["profile"])
    if text[:1] in {".", "/", "~"} or text.endswith(".gguf"):
        path = Path(text).expanduser().absolute()
        if not path.exists() and path.parent.exists() and path.suffix != ".gguf":
            return DiskName(path.parent, path.name)
        return DiskName(path)
    return None
