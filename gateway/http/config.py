"""What the HTTP edge can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """The HTTP edge, which OpenAI's clients can talk to. Keys, quotas and TLS are those of gRPC."""

    listen: str = ""
    """Where to serve HTTP beside gRPC: `host:port` (port 0: any free one) or `unix:/path`. Empty: nowhere."""
    playground: bool = True
    """Whether the page at `/` is served, on which people can try models."""
    hosts: tuple[str, ...] = ()
    """Names by which requests may come in on the loopback where nobody is asked who they are, as `ai.local`
    or `*.local`; `localhost` and addresses always may. Others come from web pages whose name was made to
    lead here."""
    image_hosts: tuple[str, ...] = ()
    """Hosts from which images are fetched that a request gives as `https` URLs, as `img.example` or
    `*.img.example`. Empty: images come as data URLs, and others are refused."""
    image_seconds: Annotated[float, Interval(gt=0, le=120)] = 10.0
    """How long fetching one image may take."""
