"""TLS of a client, and what servers share with it: PEM files, whether they fit and whether they changed."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import grpc

Stamp = tuple[tuple[int, int, int], ...]
"""Of each file its time of modification in nanoseconds, its size and its inode."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom a client trusts, and what it shows. All files are PEM.

    Raises:
        ValueError: A certificate without a key, or a key without a certificate.
    """

    ca_file: str = ""
    """Authorities one of which must have signed the server's certificate; empty: those that gRPC brings."""
    certificate_file: str = ""
    """The client's own certificate, for servers that ask for one; empty: none."""
    key_file: str = ""
    """Its private key, not encrypted."""
    server_name: str = ""
    """The name that the server's certificate must have; empty: the host of its address."""

    def __post_init__(self) -> None:
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("a client certificate takes a certificate file and a key file")

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(filter(None, (self.ca_file, self.certificate_file, self.key_file)))

    def credentials(self) -> grpc.ChannelCredentials:
        """The credentials of a channel, from the files as they are now.

        Raises:
            OSError: A file can't be read, or certificate and key don't belong together; names the file.
        """
        check_pair(self.certificate_file, self.key_file)
        return grpc.ssl_channel_credentials(
            root_certificates=content(self.ca_file),
            private_key=content(self.key_file),
            certificate_chain=content(self.certificate_file),
        )

    def options(self, host: str = "") -> list[tuple[str, str]]:
        """The channel arguments that go with the credentials.

        Args:
            host: The name behind which the address was found, if the address has none itself.
        """
        name = self.server_name or host
        if not name:
            return []
        return [("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)]


def stamp(files: Iterable[str]) -> Stamp:
    """What is another whenever one of the files has been written or replaced.

    Raises:
        OSError: One isn't there.
    """
    states = [Path(file).stat() for file in files]
    return tuple((state.st_mtime_ns, state.st_size, state.st_ino) for state in states)


def check_pair(certificate_file: str, key_file: str) -> None:
    """Makes sure that the key is the certificate's; gRPC itself would only refuse every connection.

    Raises:
        OSError: It isn't, or a file can't be read.
    """
    if not certificate_file:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate_file, key_file, _no_password)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise OSError(
            f"can't use the TLS certificate {certificate_file} with the key {key_file}: {error}"
        ) from error


def content(file: str) -> bytes | None:
    """A file's bytes; ``None`` if there is no file."""
    return Path(file).read_bytes() if file else None


def _no_password() -> str:
    raise ValueError("the key is encrypted; decrypt it first")
