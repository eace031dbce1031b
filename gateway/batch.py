"""Many generations in one call, some at a time, each told as it finishes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Final

from diplex import status
from diplex.errors import DiplexError, InvalidRequest, QueueFull
from diplex.v1 import generation_pb2 as pb
from diplex.validation import MOST_BATCHED
from gateway.inference import Inference

AT_ONCE: Final = 32
"""Requests of one batch that are under way together: enough to fill a worker's slots, too few to fill its
queue, in which others wait too."""
_PAUSE: Final = 1.0
"""Seconds until a full queue is tried again, if the worker says nothing else."""


async def generate(
    inference: Inference,
    batch: pb.GenerateBatchRequest,
    *,
    request_id: str,
    timeout: float | None,  # noqa: ASYNC109  # it travels on
    client: str = "",
) -> AsyncGenerator[pb.GenerateBatchResponse]:
    """Runs the requests; one that fails disturbs no other. Closing the generator cancels what still runs.

    Args:
        inference: Serves each of them.
        batch: As the client sent it.
        request_id: Of the call; each request's own has its index behind it.
        timeout: Seconds until the caller's deadline, if there is one: it holds for all together.
        client: Who asks, for whoever is fair to clients.

    Raises:
        InvalidRequest: There are none, or too many.
    """
    if not 0 < len(batch.requests) <= MOST_BATCHED:
        text = f"has {len(batch.requests)} entries, 1 to {MOST_BATCHED} are allowed"
        raise InvalidRequest.of_field("requests", text)
    ended = None if timeout is None else asyncio.get_running_loop().time() + timeout
    results: asyncio.Queue[pb.GenerateBatchResponse | Exception] = asyncio.Queue()

    async def work(requests: Iterator[tuple[int, pb.GenerateRequest]]) -> None:
        try:
            for index, request in requests:
                name = f"{request_id}.{index}"
                result = await _result(inference, request, request_id=name, ended=ended, client=client)
                result.index = index
                results.put_nowait(result)
        except Exception as error:  # noqa: BLE001  # a defect, which must not leave anybody waiting
            results.put_nowait(error)

    requests = iter(enumerate(batch.requests))
    workers = [asyncio.create_task(work(requests)) for _ in range(min(AT_ONCE, len(batch.requests)))]
    try:
        for _ in batch.requests:
            result = await results.get()
            if isinstance(result, Exception):
                raise result
            yield result
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _result(
    inference: Inference, request: pb.GenerateRequest, *, request_id: str, ended: float | None, client: str
) -> pb.GenerateBatchResponse:
    """A request's reply or error. While the workers' queues are full, it waits."""
    request.priority = request.priority or pb.PRIORITY_BATCH
    now = asyncio.get_running_loop().time
    while True:
        left = None if ended is None else ended - now()
        try:
            response = await inference.generate_whole(
                request, request_id=request_id, timeout=left, client=client
            )
            return pb.GenerateBatchResponse(response=response)
        except QueueFull as error:
            pause = error.retry_after or _PAUSE
            if left is not None and left <= pause:
                return pb.GenerateBatchResponse(error=_told(error))
        except DiplexError as error:
            return pb.GenerateBatchResponse(error=_told(error))
        await asyncio.sleep(pause)


def _told(error: DiplexError) -> pb.BatchError:
    told = status.to_rpc_status(error)
    return pb.BatchError(
        code=told.code, message=told.message, reason=error.reason, status=told.SerializeToString()
    )
