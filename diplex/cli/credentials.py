"""How all commands reach a gateway: options that stand for the client's environment variables."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import typer

from diplex.client.connection import FILE_VARIABLES, KEY_VARIABLE, TLS_VARIABLE


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the options before the command say; ``None`` for what they don't."""

    tls: bool | None
    ca_file: str | None
    certificate_file: str | None
    key_file: str | None
    server_name: str | None
    api_key_file: str | None

    def use(self) -> None:
        """Makes them the defaults of every client in this process, and in those that it starts.

        Raises:
            BadParameter: The file with the key can't be read.
        """
        for name, variable in FILE_VARIABLES.items():
            if value := getattr(self, name):
                os.environ[variable] = value
        if self.tls is not None:
            os.environ[TLS_VARIABLE] = "1" if self.tls else "0"
        if self.api_key_file:
            try:
                os.environ[KEY_VARIABLE] = Path(self.api_key_file).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise typer.BadParameter(f"can't read {self.api_key_file}: {error}") from error
