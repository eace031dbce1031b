"""What generates: chats, completions and responses, none with logic of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final, Literal

from google.rpc import status_pb2

from diplex import status
from diplex.caller import is_client_name
from diplex.errors import FieldViolation, InvalidRequest
from diplex.v1 import generation_pb2 as pb
from gateway import batch
from gateway.caller import Caller
from gateway.http import chat_reply, completion_reply, responses_reply
from gateway.http.chat_request import REFUSED as REFUSED_IN_CHATS
from gateway.http.chat_request import ChatRequest
from gateway.http.chunks import Chunks
from gateway.http.completion_request import REFUSED as REFUSED_IN_COMPLETIONS
from gateway.http.completion_request import CompletionRequest
from gateway.http.endpoint import Request
from gateway.http.facts import encode, word
from gateway.http.images import Images
from gateway.http.parsing import parse
from gateway.http.reply import Reply
from gateway.http.responses_events import ResponseEvents
from gateway.http.responses_request import REFUSED as REFUSED_IN_RESPONSES
from gateway.http.responses_request import ResponsesRequest
from gateway.inference import Inference

IDEMPOTENCY: Final = "idempotency-key"
"""Header with a request's idempotency key."""


class Generations:
    """Answers chats and completions.

    Args:
        inference: Serves them.
        images: Gives the bytes of images.
    """

    def __init__(self, inference: Inference, images: Images) -> None:
        self._inference = inference
        self._images = images

    async def chat(self, request: Request, caller: Caller, reply: Reply) -> None:
        """``POST /v1/chat/completions``."""
        await self._chat(parse(ChatRequest, request.body, REFUSED_IN_CHATS), request, caller, reply)

    async def torch_chat(self, request: Request, caller: Caller, reply: Reply) -> None:
        """The same under a path that older clients know, by the torch backend unless it names another."""
        chat = parse(ChatRequest, request.body, REFUSED_IN_CHATS)
        torch: Literal["torch"] = "torch"
        chat = chat if chat.backend else chat.model_copy(update={"backend": torch})
        await self._chat(chat, request, caller, reply)

    async def plan(self, request: Request, caller: Caller, reply: Reply) -> None:
        """``POST /diplex/v1/plan``: who would serve a chat, best first, and why; runs nothing."""
        chat = parse(ChatRequest, request.body, REFUSED_IN_CHATS)
        plan = self._inference.plan(await chat.to_proto(self._images), caller)
        await reply.whole(_json({"candidates": [_candidate(each) for each in plan.candidates]}))

    async def completion(self, request: Request, caller: Caller, reply: Reply) -> None:
        """``POST /v1/completions``."""
        wanted = parse(CompletionRequest, request.body, REFUSED_IN_COMPLETIONS)
        caller = _named(caller, wanted.user)
        protos = wanted.to_protos()
        if key := request.headers.get(IDEMPOTENCY):
            for index, proto in enumerate(protos):
                proto.idempotency_key = f"{key}.{index}" if index else key
        if not wanted.stream:
            await reply.whole(_json(completion_reply.whole(await self._all(protos, caller))))
            return
        if len(protos) > 1:
            raise InvalidRequest.of_field(
                "prompt", "several prompts can't be streamed; send a request for each"
            )
        chunks = completion_reply.CompletionChunks(wanted.n or 1, include_usage=wanted.include_usage)
        await self._stream(protos[0], chunks, caller, reply)

    async def response(self, request: Request, caller: Caller, reply: Reply) -> None:
        """``POST /v1/responses``: a chat in other words."""
        wanted = parse(ResponsesRequest, request.body, REFUSED_IN_RESPONSES)
        caller = _named(caller, wanted.user)
        try:
            proto = await wanted.as_chat().to_proto(self._images)
            proto.idempotency_key = request.headers.get(IDEMPOTENCY, "")
            if wanted.stream:
                await self._stream(proto, ResponseEvents(wanted), caller, reply)
                return
            whole = await self._inference.generate_whole(proto, caller)
        except InvalidRequest as error:
            raise _of_input(error) from error
        await reply.whole(_json(responses_reply.whole(whole, wanted)))

    async def _chat(self, chat: ChatRequest, request: Request, caller: Caller, reply: Reply) -> None:
        caller = _named(caller, chat.user)
        proto = await chat.to_proto(self._images)
        proto.idempotency_key = request.headers.get(IDEMPOTENCY, "")
        if not chat.stream:
            response = await self._inference.generate_whole(proto, caller)
            await reply.whole(_json(chat_reply.whole(response)))
            return
        chunks = chat_reply.ChatChunks(chat.n or 1, include_usage=chat.include_usage)
        await self._stream(proto, chunks, caller, reply)

    async def _stream(
        self, proto: pb.GenerateRequest, chunks: Chunks | ResponseEvents, caller: Caller, reply: Reply
    ) -> None:
        events = self._inference.generate(proto, caller)
        async with aclosing(events):
            async for event in events:
                data = chunks.take(event)
                if not reply.code:
                    await reply.begin_events()
                if data:
                    await reply.events(data)
        await reply.end_events(chunks.end)

    async def _all(self, protos: Sequence[pb.GenerateRequest], caller: Caller) -> list[pb.GenerateResponse]:
        """All answers, in order; the first error ends all.

        Raises:
            DiplexError: What one of them failed with.
        """
        if len(protos) == 1:
            return [await self._inference.generate_whole(protos[0], caller)]
        for proto in protos:
            proto.priority = proto.priority or pb.PRIORITY_NORMAL
        responses: dict[int, pb.GenerateResponse] = {}
        results = batch.generate(self._inference, pb.GenerateBatchRequest(requests=protos), caller)
        async with aclosing(results):
            async for result in results:
                if result.HasField("error"):
                    raise status.from_rpc_status(status_pb2.Status.FromString(result.error.status))
                responses[result.index] = result.response
        return [responses[index] for index in range(len(protos))]


def _named(caller: Caller, user: str | None) -> Caller:
    """The caller by the name that a request gives it, where nobody proved another."""
    if caller.principal.name or not is_client_name(user):
        return caller
    return replace(caller, client=user or "")


def _candidate(candidate: pb.PlanCandidate) -> dict[str, Any]:
    return {
        "model": candidate.model,
        "backend": word(pb.Backend, candidate.backend),
        "precision": word(pb.Precision, candidate.precision),
        "worker": candidate.worker,
        "reason": candidate.reason,
        "can_serve": candidate.can_serve,
    }


def _of_input(error: InvalidRequest) -> InvalidRequest:
    """The same error, with the chat's messages called the input that they were made from."""
    violations = [
        FieldViolation(
            "input" if fault.field.startswith(("chat", "messages")) else fault.field, fault.description
        )
        for fault in error.violations
    ]
    return type(error)(error.message, violations=violations, metadata=error.metadata)


def _json(body: dict[str, Any]) -> bytes:
    return encode(body).encode()
