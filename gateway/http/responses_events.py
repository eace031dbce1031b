"""An answer of ``/v1/responses``, streamed: the events of a generation as OpenAI's."""

from __future__ import annotations

from typing import Any

from diplex.v1 import generation_pb2 as pb
from gateway.http import responses_reply as reply
from gateway.http.facts import chat_logprobs, encode
from gateway.http.responses_request import ResponsesRequest

Plain = dict[str, Any]


class ResponseEvents:
    """Makes the events of one stream.

    Args:
        request: What is answered.
    """

    end = b""
    """What follows the last event."""

    def __init__(self, request: ResponsesRequest) -> None:
        self._request = request
        self._sequence = 0
        self._accepted = pb.Accepted()
        self._body: Plain = {}
        self._output: list[Plain] = []  # items that are whole
        self._texts: list[str] | None = None  # pieces of the message, while there is one
        self._logprobs: list[pb.TokenLogprob] = []
        self._call: pb.ToolCall | None = None  # the call that is being made
        self._calls = 0
        self._reason: pb.FinishReason.ValueType = pb.FINISH_REASON_UNSPECIFIED

    def take(self, data: bytes) -> bytes:
        """The events of the next event of the generation, ready to be sent; empty if it says nothing.

        Args:
            data: A ``GenerateStreamResponse``.
        """
        event = pb.GenerateStreamResponse.FromString(data)
        match event.WhichOneof("event"):
            case "delta":
                return self._delta(event.delta)
            case "accepted":
                self._accepted.CopyFrom(event.accepted)
                self._body = reply.empty(event.accepted, self._request)
                begun = {"response": self._body}
                return self._event("response.created", begun) + self._event("response.in_progress", begun)
            case "finished":
                self._reason = event.finished.reason
            case "receipt":
                return self._end(event.receipt)
        return b""

    def _delta(self, delta: pb.Delta) -> bytes:
        told = b""
        if delta.text or delta.logprobs:
            told = self._begin_text() if self._texts is None else b""
            assert self._texts is not None  # noqa: S101  # begun
            self._texts.append(delta.text)
            self._logprobs.extend(delta.logprobs)
            logprobs = chat_logprobs(delta.logprobs)["content"] if delta.logprobs else []
            told += self._event(
                "response.output_text.delta", {**self._place(), "delta": delta.text, "logprobs": logprobs}
            )
        for call in delta.tool_calls:
            told += self._piece_of_call(call)
        return told

    def _begin_text(self) -> bytes:
        told = self._end_item()
        self._texts = []
        item = reply.message(self._accepted.request_id, "", status="in_progress")
        told += self._event("response.output_item.added", {"output_index": len(self._output), "item": item})
        return told + self._event(
            "response.content_part.added", {**self._place(), "part": reply.text_part("")}
        )

    def _piece_of_call(self, piece: pb.ToolCallDelta) -> bytes:
        told = b""
        if piece.name:
            told = self._end_item()
            self._call = pb.ToolCall(id=piece.id, name=piece.name)
            item = reply.function_call(self._accepted.request_id, self._calls, self._call, "in_progress")
            told += self._event(
                "response.output_item.added", {"output_index": len(self._output), "item": item}
            )
        if piece.arguments and self._call is not None:
            self._call.arguments += piece.arguments
            told += self._event(
                "response.function_call_arguments.delta", {**self._call_place(), "delta": piece.arguments}
            )
        return told

    def _end_item(self) -> bytes:
        """The end of the message or call that is under way, if one is."""
        told, item = b"", None
        if self._texts is not None:
            text = "".join(self._texts)
            item = reply.message(self._accepted.request_id, text, self._logprobs)
            [part] = item["content"]
            done = {**self._place(), "text": text, "logprobs": part["logprobs"]}
            told = self._event("response.output_text.done", done)
            told += self._event("response.content_part.done", {**self._place(), "part": part})
            self._texts = None
        elif self._call is not None:
            item = reply.function_call(self._accepted.request_id, self._calls, self._call)
            done = {**self._call_place(), "name": self._call.name, "arguments": self._call.arguments}
            told = self._event("response.function_call_arguments.done", done)
            self._call = None
            self._calls += 1
        if item is None:
            return b""
        ended = {"output_index": len(self._output), "item": item}
        self._output.append(item)
        return told + self._event("response.output_item.done", ended)

    def _end(self, receipt: pb.Receipt) -> bytes:
        told = b"" if self._output or self._call or self._texts is not None else self._begin_text()
        told += self._end_item()
        body = reply.ended(self._body, self._output, self._reason, self._accepted, receipt)
        return told + self._event(f"response.{body['status']}", {"response": body})

    def _place(self) -> Plain:
        name = f"msg_{self._accepted.request_id}"
        return {"item_id": name, "output_index": len(self._output), "content_index": 0}

    def _call_place(self) -> Plain:
        name = f"fc_{self._accepted.request_id}_{self._calls}"
        return {"item_id": name, "output_index": len(self._output)}

    def _event(self, kind: str, told: Plain) -> bytes:
        body = {"type": kind, "sequence_number": self._sequence, **told}
        self._sequence += 1
        return f"event: {kind}\ndata: {encode(body)}\n\n".encode()
