"""A whole response, put together from the events of a stream."""

from __future__ import annotations

from diplex.v1 import generation_pb2 as pb


class Assembly:
    """Takes the events of one generation and gives the response they come to."""

    def __init__(self) -> None:
        self._response = pb.GenerateResponse()
        self._choices: dict[int, pb.Choice] = {}  # index -> choice, its text still empty
        self._texts: dict[int, list[str]] = {}  # index -> pieces of its text

    def add(self, event: pb.GenerateStreamResponse) -> None:
        """Takes the next event."""
        match event.WhichOneof("event"):
            case "delta":
                choice = self._choice(event.delta.choice)
                self._texts[choice.index].append(event.delta.text)
                choice.token_ids.extend(event.delta.token_ids)
                choice.logprobs.extend(event.delta.logprobs)
                for call in event.delta.tool_calls:
                    _add_to_call(choice, call)
            case "finished":
                choice = self._choice(event.finished.choice)
                choice.finish_reason = event.finished.reason
                if event.finished.HasField("stop_match"):
                    choice.stop_match.CopyFrom(event.finished.stop_match)
            case "accepted":
                self._response.accepted.CopyFrom(event.accepted)
            case "receipt":
                self._response.receipt.CopyFrom(event.receipt)

    def response(self) -> pb.GenerateResponse:
        """The response, its choices in the order of their indices."""
        for index in sorted(self._choices):
            choice = self._choices[index]
            choice.text = "".join(self._texts[index])
            self._response.choices.append(choice)
        return self._response

    def _choice(self, index: int) -> pb.Choice:
        if index not in self._choices:
            self._choices[index] = pb.Choice(index=index)
            self._texts[index] = []
        return self._choices[index]


def _add_to_call(choice: pb.Choice, delta: pb.ToolCallDelta) -> None:
    while len(choice.tool_calls) <= delta.index:
        choice.tool_calls.add()
    call = choice.tool_calls[delta.index]
    call.id += delta.id
    call.name += delta.name
    call.arguments += delta.arguments
