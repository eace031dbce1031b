"""Images that a request gives by URL: data URLs always, others from hosts that the operator allows."""

from __future__ import annotations

import asyncio
import binascii
import urllib.error
import urllib.request
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, Final
from urllib.parse import urlsplit

from diplex.errors import InvalidRequest
from diplex.v1 import generation_pb2 as pb
from diplex.validation import LARGEST_IMAGE

_TOLD: Final = 80


class Images:
    """Gives the bytes behind URLs.

    Args:
        hosts: Patterns of the hosts that ``https`` URLs may have.
        seconds: How long fetching one image may take.
    """

    def __init__(self, hosts: Sequence[str] = (), seconds: float = 10.0) -> None:
        self._hosts = tuple(host.lower() for host in hosts)
        self._seconds = seconds
        self._opener = urllib.request.build_opener(_NoRedirects)

    async def find(self, url: str, field: str) -> pb.Image:
        """The image behind a URL.

        Args:
            url: As the request has it.
            field: Its path in the request, for errors.

        Raises:
            InvalidRequest: It is no URL of an image that can be had.
        """
        if url[:5].lower() == "data:":
            return _in_data(url, field)
        self._check_host(url, field)
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.to_thread(self._fetched, url, field)
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            reason = str(error) or "it took too long"
            raise InvalidRequest.of_field(field, f"the image can't be fetched: {reason}") from error

    def _check_host(self, url: str, field: str) -> None:
        try:
            parts = urlsplit(url)
            scheme, host = parts.scheme, parts.hostname or ""
        except ValueError:
            scheme, host = "", ""
        if scheme not in ("https", "http"):
            raise InvalidRequest.of_field(field, f"{url[:_TOLD]!r} is no URL: send `data:image/png;base64,…`")
        if scheme != "https" or not any(fnmatchcase(host, pattern) for pattern in self._hosts):
            raise InvalidRequest.of_field(
                field,
                "this gateway doesn't fetch images from there: send `data:image/png;base64,…`, or ask the "
                "operator for the host in http.image_hosts",
            )

    def _fetched(self, url: str, field: str) -> pb.Image:
        try:
            reply = self._opener.open(url, timeout=self._seconds)
        except urllib.error.HTTPError as error:
            error.close()  # it is the reply, too
            raise
        with reply:
            kind = reply.headers.get_content_type()
            data = reply.read(LARGEST_IMAGE + 1)
        if len(data) > LARGEST_IMAGE:
            raise InvalidRequest.of_field(field, f"has more than {LARGEST_IMAGE} bytes")
        if not kind.startswith("image/"):
            raise InvalidRequest.of_field(field, f"there is no image, but {kind[:_TOLD]}")
        return pb.Image(data=data, media_type=kind)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A host that is allowed may not send us to one that isn't."""

    def redirect_request(self, *_: Any) -> None:
        """Follows none."""


def _in_data(url: str, field: str) -> pb.Image:
    head, comma, data = url.partition(",")
    kind, *parameters = head[len("data:") :].split(";")
    if not comma or "base64" not in parameters:
        raise InvalidRequest.of_field(field, "is no data URL of the form `data:image/png;base64,…`")
    try:
        decoded = binascii.a2b_base64(data.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise InvalidRequest.of_field(field, f"its base64 is broken: {error}") from error
    return pb.Image(data=decoded, media_type=kind)
