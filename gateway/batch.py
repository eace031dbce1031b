"""Many generations in one call, some at a time, each told as it finishes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Final

from diplex import status
from diplex.errors import DeadlineUnreachable, DiplexError, InvalidRequest, QueueFull, RateLimited
from diplex.v1 import generation_pb2 as pb
from diplex.validation import MOST_BATCHED
from gateway.caller import Caller
from gateway.inference import Inference

AT_ONCE: Final = 32
"""Requests of one batch that are under way together: enough to fill a worker's slots, too few to fill its
queue, in which others wait too."""
_PAUSE: Final = 1.0
"""Seconds until a full queue is tried again, if the worker says nothing else."""


async def generate(
    inference: Inference, batch: pb.GenerateBatchRequest, caller: Caller
) -> AsyncGenerator[pb.GenerateBatchResponse]:
    """Runs the requests; one that fails disturbs no other. Closing the generator cancels what still runs.

    Args:
        inference: Serves each of them.
        batch: As the client sent it.
        caller: On whose behalf. The deadline holds for all together; each request's id has its index behind
            the call's.

    Raises:
        InvalidRequest: There are none, or too many.
    """
    if not 0 < len(batch.requests) <= MOST_BATCHED:
        text = f"has {len(batch.requests)} entries, 1 to {MOST_BATCHED} are allowed"
        raise InvalidRequest.of_field("requests", text)
    results: asyncio.Queue[pb.GenerateBatchResponse | Exception] = asyncio.Queue()

    async def work(requests: Iterator[tuple[int, pb.GenerateRequest]]) -> None:
        try:
            for index, request in requests:
                result = await _result(inference, request, caller.part(index))
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
    inference: Inference, request: pb.GenerateRequest, caller: Caller
) -> pb.GenerateBatchResponse:
    """A request's reply or error. While queues are full or the caller's rate is used up, it waits."""
    request.priority = request.priority or pb.PRIORITY_BATCH
    while True:
        try:
            response = await inference.generate_whole(request, caller)
            return pb.GenerateBatchResponse(response=response)
        except (QueueFull, RateLimited, DeadlineUnreachable) as error:
            pause = error.retry_after or _PAUSE
            if not caller.can_wait(pause):
                return pb.GenerateBatchResponse(error=_told(error))
        except DiplexError as error:
            return pb.GenerateBatchResponse(error=_told(error))
        await asyncio.sleep(pause)


def _told(error: DiplexError) -> pb.BatchError:
    told = status.to_rpc_status(error)
    return pb.BatchError(
        code=told.code, message=told.message, reason=error.reason, status=told.SerializeToString()
    )
