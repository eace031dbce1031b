"""The two ways to a gateway, as a load generator takes them: gRPC, and HTTP as OpenAI's clients speak it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from diplex import errors
from diplex.client import AsyncClient, GenerateOptions, RawPrompt, TokenIds

_DATA: Final = "data: "
_DONE: Final = "[DONE]"
_BACKENDS: Final = {"torch": "pytorch"}
"""Backends that are called otherwise over HTTP."""


class Refused(Exception):
    """A request that came to nothing.

    Args:
        reason: A constant that tells what kind of failure it is.
        message: What was said.
        retry_after: Seconds after which another may succeed; ``None`` if nothing was said of that.
    """

    def __init__(self, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class Door(Protocol):
    """What the load goes through. Opened once for all streams."""

    where: str
    """What it leads to, for a person."""

    async def token_ids(self, text: str) -> Sequence[int]:
        """A text as token ids of the model.

        Raises:
            Refused: The gateway failed.
        """

    def generate(self, prompt: Sequence[int], tokens: int) -> AsyncGenerator[int]:
        """Continues a prompt greedily for exactly so many tokens; yields how many each message brought.

        Closing the generator early cancels the request.

        Raises:
            Refused: The gateway failed.
        """

    async def close(self) -> None:
        """Ends all connections."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked for."""

    model: str | None
    """``None``: the gateway's default."""
    backend: str | None
    """``None``: the gateway chooses."""
    timeout: float | None
    """Seconds that a request may take."""


class GrpcDoor:
    """gRPC, through the SDK.

    Args:
        address: The gateway's; ``None``: as the SDK finds it.
        target: What is asked for.
    """

    def __init__(self, address: str | None, target: Target) -> None:
        self._client = AsyncClient(address, patience=0)
        self._timeout = target.timeout
        self._target = target
        self._route: GenerateOptions = {"model": target.model, "backend": target.backend}
        self.where = self._client.address

    async def token_ids(self, text: str) -> Sequence[int]:
        """See :class:`Door`."""
        try:
            count = await self._client.count_tokens(
                RawPrompt(text),
                model=self._target.model,
                backend=self._target.backend,
                token_ids=True,
                timeout=self._timeout,
            )
        except errors.DiplexError as error:
            raise _refused(error) from error
        return count.token_ids

    async def generate(self, prompt: Sequence[int], tokens: int) -> AsyncGenerator[int]:
        """See :class:`Door`."""
        exactly: GenerateOptions = {"max_tokens": tokens, "min_tokens": tokens, "temperature": 0}
        options: GenerateOptions = {**self._route, **exactly}
        try:
            async with self._client.stream(TokenIds(prompt), timeout=self._timeout, **options) as stream:
                async for delta in stream:
                    if delta.tokens:
                        yield delta.tokens
        except errors.DiplexError as error:
            raise _refused(error) from error

    async def close(self) -> None:
        """See :class:`Door`."""
        await self._client.close()


class HttpDoor:
    """``/v1/completions`` as server-sent events, asked for token ids, since a chunk may hold several.

    Args:
        url: Base URL, as ``http://127.0.0.1:8000/v1``.
        target: What is asked for.
        api_key: Sent as a bearer token; empty for none.
    """

    def __init__(self, url: str, target: Target, api_key: str = "") -> None:
        import httpx2  # noqa: PLC0415  # a tenth of a second that gRPC's door does without

        self.where = url.rstrip("/")
        self._timeout = target.timeout
        self._failures = httpx2.HTTPError
        named = {"model": target.model, "backend": _BACKENDS.get(target.backend or "", target.backend)}
        self._route = {name: value for name, value in named.items() if value is not None}
        self._client = httpx2.AsyncClient(
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
            timeout=target.timeout,
            trust_env=False,
        )

    async def token_ids(self, text: str) -> Sequence[int]:
        """See :class:`Door`; a token is generated for it, since the API has no other way."""
        body = {**self._route, "prompt": text, "max_tokens": 1, "return_token_ids": True}
        try:
            response = await self._client.post(f"{self.where}/completions", json=body)
        except self._failures as error:
            raise Refused(type(error).__name__, self._unreachable(error)) from error
        if response.status_code != 200:  # noqa: PLR2004  # OK
            raise _told(response.status_code, response.content, response.headers)
        ids: Sequence[int] | None = response.json().get("prompt_token_ids")
        if ids is None:
            raise Refused("NO_TOKEN_IDS", f"{self.where} returns no token ids: it is no gateway of Diplex")
        return ids

    async def generate(self, prompt: Sequence[int], tokens: int) -> AsyncGenerator[int]:
        """See :class:`Door`."""
        body = {
            **self._route,
            "prompt": list(prompt),
            "max_tokens": tokens,
            "min_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "return_token_ids": True,
        }
        headers = {"x-request-timeout": f"{self._timeout:g}"} if self._timeout else {}
        try:
            async with self._client.stream(
                "POST", f"{self.where}/completions", json=body, headers=headers
            ) as response:
                if response.status_code != 200:  # noqa: PLR2004  # OK
                    raise _told(response.status_code, await response.aread(), response.headers)
                async for line in response.aiter_lines():
                    if line.startswith(_DATA) and (data := line.removeprefix(_DATA)) != _DONE:
                        for count in _counts(data):
                            yield count
        except self._failures as error:
            raise Refused(type(error).__name__, self._unreachable(error)) from error

    async def close(self) -> None:
        """See :class:`Door`."""
        await self._client.aclose()

    def _unreachable(self, error: Exception) -> str:
        return f"{self.where} can't be reached or broke off: {error or type(error).__name__}"


def _counts(data: str) -> list[int]:
    """Tokens of each choice in a chunk.

    Raises:
        Refused: It is an error.
    """
    chunk = json.loads(data)
    if "error" in chunk:
        raise _told(0, data.encode(), {})
    return [len(ids) for choice in chunk["choices"] if (ids := choice.get("token_ids"))]


def _told(status: int, body: bytes, headers: Mapping[str, str]) -> Refused:
    try:
        error: dict[str, Any] = json.loads(body)["error"]
        reason = str(error.get("diplex", {}).get("reason") or error.get("code") or status)
        message = str(error.get("message"))
    except (ValueError, KeyError, AttributeError, TypeError):
        reason, message = f"HTTP_{status}", body[:200].decode(errors="replace")
    wait = headers.get("retry-after", "")
    return Refused(reason, message, float(wait) if wait.replace(".", "", 1).isdigit() else None)


def _refused(error: errors.DiplexError) -> Refused:
    return Refused(error.reason, error.message, error.retry_after)
