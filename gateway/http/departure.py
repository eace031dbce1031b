"""Clients that leave before they have their answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

_T = TypeVar("_T")


class ClientGone(Exception):  # reads better where it is raised and caught
    """The client closed its connection."""


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, _T]) -> _T:
    """Does what a client waits for, and cancels it at once when the client goes away.

    Args:
        receive: The request's, behind its body.
        work: What is done for the client.

    Raises:
        ClientGone: The client has gone; the work has been cancelled, and has ended.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_departure(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone = not working.done()
        working.cancel()
        leaving.cancel()
        await asyncio.wait((working, leaving))
    if gone:
        raise ClientGone
    return working.result()


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
