"""One engine process as its supervisor sees it: start, requests, death."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncGenerator, Callable
from typing import Final

from diplex.errors import DiplexError, EngineCrashed, InternalError
from workers.runtime.engine.messages import (
    Admitted,
    Cancel,
    Count,
    Counted,
    EngineConfig,
    Failed,
    FromEngine,
    Load,
    Piece,
    Ready,
    Refused,
    Stepped,
    Submit,
    ToEngine,
    pack,
)
from workers.runtime.generation import Generation, ModelInput
from workers.runtime.supervisor.mailbox import Mail, Mailbox
from workers.runtime.supervisor.spawner import Child, Spawner

_LOOK_SECONDS: Final = 0.25
"""Between two looks at how far a loading engine is."""


class EngineProcess:
    """A running engine. Made by :meth:`start`.

    Everything that waits for the engine fails with :class:`EngineCrashed` in the moment in which it dies.
    """

    def __init__(self, child: Child, on_load: Callable[[Load], None]) -> None:
        self.pid: Final = child.process.pid
        self._child = child
        self._process = child.process
        self._frames = child.frames
        self._on_load = on_load
        self._ids = itertools.count(1)
        self._mailboxes: dict[int, Mailbox] = {}  # request id -> where its mail goes
        self._loaded: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._ending = asyncio.create_task(self._end(), name=f"engine {self.pid}")
        self._frames.deliver_to(self._dispatch)

    @classmethod
    async def start(
        cls,
        spawner: Spawner,
        config: EngineConfig,
        on_load: Callable[[Load], None],
        growing: Callable[[int], None] | None = None,
    ) -> tuple[EngineProcess, Ready]:
        """Starts an engine and waits until its model is loaded.

        Args:
            spawner: Gives the process.
            config: What to load, and how.
            on_load: Called with every change of how busy the engine is.
            growing: Called now and then with the resident bytes of the process while it loads.

        Raises:
            DiplexError: The model can't be loaded; the engine said why.
            EngineCrashed: The process died before it was ready.
        """
        engine = cls(await spawner.spawn(), on_load)
        try:
            engine._send(config)
            while (
                growing is not None and not (await asyncio.wait((engine._loaded,), timeout=_LOOK_SECONDS))[0]
            ):
                growing(engine.resident_bytes)
            return engine, await engine._loaded
        except BaseException:
            await engine.stop()
            raise

    async def generate(self, generation: Generation) -> AsyncGenerator[Admitted | Piece]:
        """Runs a request: first ``Admitted``, then pieces, each choice's last with a ``finish``.

        Leaving the iteration early cancels the request; its slot is free at the engine's next step.

        Args:
            generation: The request.

        Raises:
            DiplexError: The engine refused the request.
            EngineCrashed: The engine died.
        """
        request_id = next(self._ids)
        mailbox = self._open(Submit(request_id, generation), Mailbox(whole=generation.output.whole))
        unfinished, admitted = len(generation.unfinished), False
        try:
            while unfinished or not admitted:
                mail = await mailbox.get()
                assert isinstance(mail, Admitted | Piece)  # noqa: S101  # what a Submit is answered with
                admitted = True
                unfinished -= isinstance(mail, Piece) and mail.finish is not None
                yield mail
        finally:
            del self._mailboxes[request_id]
            if unfinished or not admitted:
                self._send(Cancel(request_id))

    async def count(self, model_input: ModelInput) -> tuple[int, ...]:
        """Token ids of an input, as a generation would get them.

        Raises:
            DiplexError: The input can't be encoded, or the engine died.
        """
        request_id = next(self._ids)
        mailbox = self._open(Count(request_id, model_input), Mailbox())
        try:
            mail = await mailbox.get()
        finally:
            del self._mailboxes[request_id]
        assert isinstance(mail, Counted)  # noqa: S101  # what a Count is answered with
        return mail.ids

    async def died(self) -> int:
        """Waits until the process has ended, for whatever reason; returns its exit code."""
        await asyncio.shield(self._ending)
        return await self._process.wait()

    async def stop(self) -> None:
        """Ends the process, gently and then not; running requests fail."""
        await self._child.stop()
        await self._ending

    @property
    def resident_bytes(self) -> int:
        """Resident memory of the process; 0 when it can't be read."""
        return self._child.resident_bytes

    def _open(self, message: Submit | Count, mailbox: Mailbox) -> Mailbox:
        if self._process.returncode is not None or self._frames.closed.done():
            raise self._crash()
        self._mailboxes[message.id] = mailbox
        self._send(message)
        return mailbox

    def _send(self, message: ToEngine) -> None:
        self._frames.write(pack(message))

    async def _end(self) -> None:
        """Waits for the end of the connection and sees to it that it is the end of the process too."""
        try:
            await asyncio.shield(self._frames.closed)
        finally:
            if not self._frames.closed_by_us:
                # A closed socket and a living process: no request can reach it any more.
                self._child.kill()
            await self._process.wait()
            for mailbox in self._mailboxes.values():
                mailbox.put(self._crash())
            if not self._loaded.done():
                self._loaded.set_exception(self._crash("while loading the model"))
                self._loaded.exception()  # whoever started the engine may have gone

    def _dispatch(self, message: FromEngine) -> None:
        match message:
            case Stepped(pieces, load):
                for piece in pieces:
                    self._deliver(piece.id, piece)
                self._on_load(load)
            case Admitted() | Counted():
                self._deliver(message.id, message)
            case Refused(request_id, error):
                self._deliver(request_id, error)
            case Ready():
                self._loaded.set_result(message)
            case Failed(error):
                self._loaded.set_exception(error)
            case _:
                raise InternalError(f"unexpected message from the engine: {type(message).__name__}")

    def _deliver(self, request_id: int, mail: Mail | DiplexError) -> None:
        mailbox = self._mailboxes.get(request_id)
        if mailbox is not None:  # else it was cancelled a moment ago
            mailbox.put(mail)

    def _crash(self, when: str = "while it held the request; try again") -> EngineCrashed:
        code = self._process.returncode
        if code is None or code >= 0:
            how = "ended" if code is None else f"ended with exit code {code}"
        else:
            how = f"was killed by signal {-code} ({signal.strsignal(-code)})"
        return EngineCrashed(
            f"the engine process {how} {when}",
            metadata={"pid": str(self.pid), "exit_code": str(code)},
            retry_after=1.0,
        )
