"""One call from a model's name to its text, for programs that want no more than that.

    from diplex import BackendType, get_model_manager

    manager = get_model_manager()
    manager.generate_text(model_name="SmolLM2-135M-Instruct", text="Why is the sky blue?")

It works against the gateway that is configured, or that serves at the default address; where there is none,
it starts one for this program (:mod:`diplex.embedded`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final, TypedDict, Unpack

from diplex import errors
from diplex.client.connection import ADDRESS_VARIABLE, DEFAULT_ADDRESS
from diplex.client.images import ImageLike
from diplex.client.inputs import Backend
from diplex.client.models import Health
from diplex.client.streams import Stream
from diplex.client.synchronous import Client
from diplex.embedded import TORCH_PYTHON_VARIABLE, EmbeddedGateway, has_torch

_LOOK_SECONDS: Final = 2.0
"""How long a gateway at the default address may take to say that it is there."""


class BackendType(StrEnum):
    """What is to run a model."""

    AUTO = "auto"
    """The gateway chooses."""
    ONNX = "onnx"
    PYTORCH = "pytorch"


_BACKENDS: Final = {
    BackendType.AUTO: None,
    BackendType.ONNX: Backend.ONNX,
    BackendType.PYTORCH: Backend.TORCH,
}


class TextOptions(TypedDict, total=False):
    """Keyword arguments of ``generate_text`` and ``stream_text``. Absent or ``None``: the model's own."""

    system: str | None
    """A system message."""
    max_tokens: int | None
    """Generated tokens at most. Default: as many as the context holds."""
    temperature: float | None
    """0 is greedy."""
    top_p: float | None
    """Keep the smallest set of tokens whose probability reaches it."""
    seed: int | None
    """Makes sampling repeatable."""
    stop: Sequence[str] | None
    """Ends the answer when it contains one of these."""
    timeout: float | None
    """Seconds that the answer may take."""


class ModelManager:
    """Generates text with any model that the gateway serves. Safe to share among threads.

    :func:`get_model_manager` gives the program's one. Nothing is connected or started before the first call.

    Args:
        address: The gateway's. Default: ``$DIPLEX_ADDRESS``; else 127.0.0.1:50051 if a gateway is there; else
            one is started, which ends with this program.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = address or os.environ.get(ADDRESS_VARIABLE)
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._embedded: EmbeddedGateway | None = None

    @property
    def client(self) -> Client:
        """The client that the calls go through, for everything that isn't here; starts what has to be.

        Raises:
            DiplexError: No gateway is there, and none can be started; says why.
        """
        with self._lock:
            if self._embedded is not None and not self._embedded.running:
                self._forget()
            if self._client is None:
                self._client = self._connected()
            return self._client

    def generate_text(
        self,
        model_name: str | None = None,
        text: str = "",
        images: Sequence[ImageLike | bytes | str] = (),
        backend: BackendType | str = BackendType.AUTO,
        **options: Unpack[TextOptions],
    ) -> str:
        """The answer to a text, about pictures if there are any.

        Args:
            model_name: Name or alias, optionally with a precision behind a slash; ``None``: the default one.
            text: What the user says.
            images: Put before the text: bytes, base64 with or without ``data:…;base64,`` before it, paths, or
                images of Pillow.
            backend: What must run it.
            **options: See :class:`TextOptions`.

        Raises:
            DiplexError: As :class:`~diplex.Client` raises it.
        """
        with self._stream(model_name, text, images, backend, options) as stream:
            return stream.collect().text

    def stream_text(
        self,
        model_name: str | None = None,
        text: str = "",
        images: Sequence[ImageLike | bytes | str] = (),
        backend: BackendType | str = BackendType.AUTO,
        **options: Unpack[TextOptions],
    ) -> Iterator[str]:
        """The same in pieces, as they come. Closing the iterator ends the generation.

        Raises:
            DiplexError: As :class:`~diplex.Client` raises it.
        """
        with self._stream(model_name, text, images, backend, options) as stream:
            for delta in stream:
                yield delta.text

    def close(self) -> None:
        """Ends the connection, and the gateway if it was started here. The next call begins anew."""
        with self._lock:
            self._forget()

    def _stream(
        self,
        model_name: str | None,
        text: str,
        images: Sequence[ImageLike | bytes | str],
        backend: BackendType | str,
        options: TextOptions,
    ) -> Stream:
        wanted = _backend(backend)
        client = self.client
        if self._embedded is not None and wanted is Backend.TORCH and not has_torch():
            raise errors.UnsupportedFeature.of_field(
                "backend",
                "the gateway of this program's own has no PyTorch worker: pip install 'diplex[torch]', or "
                f"name the interpreter of an environment that has it by ${TORCH_PYTHON_VARIABLE}",
            )
        return client.stream(text, model=model_name, images=images, backend=wanted, **options)

    def _connected(self) -> Client:
        if self._address:
            return Client(self._address)
        if _serves(DEFAULT_ADDRESS):
            return Client(DEFAULT_ADDRESS)
        self._embedded = EmbeddedGateway.start()
        return Client(self._embedded.address, tls=False)

    def _forget(self) -> None:
        if self._client is not None:
            self._client.close()
        if self._embedded is not None:
            self._embedded.close()
        self._client = self._embedded = None


def get_model_manager(address: str | None = None) -> ModelManager:
    """The program's manager for a gateway; the same one at every call.

    Args:
        address: See :class:`ModelManager`.
    """
    with _LOCK:
        return _MANAGERS.setdefault(address, ModelManager(address))


_LOCK: Final = threading.Lock()
_MANAGERS: Final[dict[str | None, ModelManager]] = {}  # by the address that was asked for


def _serves(address: str) -> bool:
    with Client(address, patience=0) as client:
        try:
            return client.health(timeout=_LOOK_SECONDS) in {Health.SERVING, Health.NOT_SERVING}
        except errors.DiplexError:
            return False


def _backend(named: BackendType | str) -> Backend | None:
    try:
        return _BACKENDS[BackendType(named)]
    except ValueError:
        known = ", ".join(BackendType)
        raise errors.InvalidRequest.of_field("backend", f"is {named!r}; must be one of {known}") from None
