"""The file with API keys and roles: what stands in it, and its reading anew when it changes."""

from __future__ import annotations

import json
import re
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import structlog
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass as checked

from diplex.tls import Stamp, stamp
from gateway.security.principal import Method, Quota, Rate, Rights

DEFAULT_ROLE: Final = "default"
"""The role of keys, tokens and certificates that name none."""

_LOOK_SECONDS: Final = 1.0
"""Between two looks whether the file has changed."""
_SECONDS: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_LOG: Final = structlog.get_logger()
_STRICT: Final = ConfigDict(extra="forbid")


def _rate(text: Any) -> Any:
    match = re.fullmatch(r"(\d+)\s*/\s*(second|minute|hour|day)", text) if isinstance(text, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError("write a rate as 60/minute; second, minute, hour and day are known")
    return Rate(int(match[1]), _SECONDS[match[2]])


@checked(config=_STRICT, frozen=True)
class QuotaEntry:
    """Limits of a caller."""

    requests: tuple[Rate, ...] = ()
    tokens: tuple[Rate, ...] = ()
    concurrent: Annotated[int, Field(ge=1)] | None = None

    @field_validator("requests", "tokens", mode="before")
    @classmethod
    def _rates(cls, value: Any) -> Any:
        return tuple(_rate(text) for text in (value if isinstance(value, list) else [value]))


@checked(config=_STRICT, frozen=True)
class RoleEntry:
    """What a role, or a single key, has a right to; ``None``: as the role says."""

    models: tuple[str, ...] | None = None
    methods: frozenset[Method] | None = None
    quota: QuotaEntry | None = None

    def over(self, base: Rights) -> Rights:
        """These rights, where nothing is said those of ``base``."""
        it = self.quota
        return Rights(
            models=base.models if self.models is None else self.models,
            methods=base.methods if self.methods is None else self.methods,
            quota=base.quota if it is None else Quota(it.requests, it.tokens, it.concurrent),
        )


@checked(config=_STRICT, frozen=True)
class KeyEntry(RoleEntry):
    """One API key, without the key."""

    name: Annotated[str, Field(min_length=1, max_length=100)] = Field(kw_only=True)
    id: Annotated[str, Field(pattern=r"^[a-z0-9]{12}$")] = Field(kw_only=True)
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(kw_only=True)
    role: str = DEFAULT_ROLE
    expires: datetime | None = None

    @field_validator("expires")
    @classmethod
    def _aware(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("needs a time zone, as 2027-01-01T00:00:00Z")
        return value


@checked(config=_STRICT, frozen=True)
class RolesFile:
    """The file as a whole."""

    keys: tuple[KeyEntry, ...] = ()
    roles: Mapping[str, RoleEntry] = field(default_factory=dict)
    certificates: Mapping[str, str] = field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> RolesFile:
        ids = [key.id for key in self.keys]
        if len(set(ids)) < len(ids):
            raise ValueError("two keys have the same id")
        named = {f"keys.{key.name}": key.role for key in self.keys}
        named |= {f"certificates.{name}": role for name, role in self.certificates.items()}
        for place, role in named.items():
            if role != DEFAULT_ROLE and role not in self.roles:
                raise ValueError(f"{place}: there is no role {role!r}")
        return self


class InvalidKeysFile(ValueError):
    """A keys file can't be read or says what can't be; the message names file and key, and no secret."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Keys and roles as they are at one moment."""

    keys: Mapping[str, KeyEntry] = field(default_factory=dict)  # id -> entry
    roles: Mapping[str, RoleEntry] = field(default_factory=dict)
    certificates: Mapping[str, str] = field(default_factory=dict)  # name -> role
    everybody: bool = True
    """There is no file, so that whoever is known by other means may generate."""

    @classmethod
    def read(cls, file: str) -> Roles:
        """Reads a file.

        Raises:
            InvalidKeysFile: See there.
        """
        try:
            data = Path(file).read_bytes()
            raw = json.loads(data) if file.endswith(".json") else tomllib.loads(data.decode())
            entries = _FILE.validate_python(raw)
        except ValidationError as error:
            # Values are left out: one of them may be a key that somebody put in the wrong place.
            told = "; ".join(f"{'.'.join(map(str, it['loc']))}: {it['msg']}" for it in error.errors())
            raise InvalidKeysFile(f"{file}: {told}") from None
        except (OSError, ValueError) as error:
            raise InvalidKeysFile(f"{file}: {error}") from error
        return cls({it.id: it for it in entries.keys}, entries.roles, entries.certificates, everybody=False)

    def rights_of_key(self, key: KeyEntry) -> Rights:
        """A key's own rights over those of its role."""
        return key.over(self.rights_of([key.role]) or Rights())

    def rights_of(self, names: Iterable[str]) -> Rights | None:
        """The rights of the first role that is known, else of the default role; ``None`` without either."""
        for name in [*names, DEFAULT_ROLE]:
            if name in self.roles:
                return self.roles[name].over(Rights())
        return Rights() if self.everybody else None


_FILE: Final = TypeAdapter(RolesFile)


class WatchedRoles:
    """A file's keys and roles; those of before while it can't be used.

    Args:
        file: Its path; empty for none.

    Raises:
        InvalidKeysFile: On construction; later it is logged.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._stamp: Stamp = stamp([file]) if file and Path(file).exists() else ()
        self._now = Roles.read(file) if file else Roles()
        self._looked = time.monotonic()
        self._told = ""  # the last failure that was logged

    @property
    def current(self) -> Roles:
        """As the file says, about a second after it has changed at the latest."""
        if self._file and time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._look()
        return self._now

    def _look(self) -> None:
        try:
            seen = stamp([self._file])
            if seen == self._stamp:
                return
            self._stamp = seen
            self._now = Roles.read(self._file)
        except (OSError, InvalidKeysFile) as error:
            _LOG.error("keys not renewed", error=str(error))  # the message says it all
            return
        _LOG.info("keys renewed", file=self._file, keys=len(self._now.keys))
