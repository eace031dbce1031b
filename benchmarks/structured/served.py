"""Structured output and tool calls of a real model, through the gateway.

Run as ``python -m benchmarks.structured.served`` in the environment of ``make test``.

- Generated schemas: how many are accepted, how many outputs end within the limit, and whether those validate.
- Generated schemas of tools, with ``required``: the same for calls; and whether the pieces of a stream join
  to the whole call.
- 16 clients whose outputs are held to a schema against 16 whose aren't: tokens a second, in turns.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any, Final

import jsonschema

from benchmarks import weights
from benchmarks.stack import Stack
from benchmarks.structured.generated import draw, satisfiable
from diplex.client import Client, FinishReason, GenerateOptions, Tool, ToolCall
from diplex.errors import InvalidRequest

_CLIENTS: Final = 16
_SECONDS: Final = 120
_LETTER: Final = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "paragraphs": {"type": "array", "items": {"type": "string"}, "minItems": 3},
        "words": {"type": "integer"},
    },
    "required": ["title", "paragraphs", "words"],
    "additionalProperties": False,
}
"""What throughput is measured with."""

Schema = dict[str, Any]


@dataclass
class Tally:
    """What became of some requests."""

    title: str
    asked: int = 0
    ended: int = 0
    valid: int = 0
    beyond: int = 0
    """With a number so large that the validator fails."""
    unsatisfiable: int = 0
    """Refused, and nothing was found that satisfies them."""
    refused: Counter[str] = field(default_factory=Counter)
    """The others that were refused, by reason."""
    wrong: list[str] = field(default_factory=list)

    def refuse(self, schema: Schema, error: InvalidRequest) -> None:
        """Counts a refusal."""
        if satisfiable(schema):
            self.refused[_reason(error)] += 1
        else:
            self.unsatisfiable += 1

    def show(self) -> None:
        """Prints it."""
        asked = self.asked - self.unsatisfiable
        accepted = asked - self.refused.total()
        print(
            f"{self.title}: {self.asked} asked, {self.unsatisfiable} that nothing satisfies refused, of the "
            f"others {accepted} accepted ({accepted / max(asked, 1):.1%}), ",
            end="",
        )
        print(f"{self.ended} ended ({self.ended / max(accepted, 1):.1%}), {self.valid} of them valid", end="")
        print(f", {self.beyond} beyond the validator" if self.beyond else "")
        for reason, times in self.refused.most_common(8):
            print(f"  refused {times:3}: {reason}")
        for text in self.wrong[:5]:
            print(f"  wrong: {text[:300]}")


def formats(client: Client, schemas: Sequence[Schema], max_tokens: int) -> Tally:
    """Outputs that are held to schemas."""
    tally = Tally("schemas")

    def ask(schema: Schema) -> None:
        tally.asked += 1
        text = "Write an example of JSON that follows this schema: " + json.dumps(schema)
        try:
            answer = client.generate(
                text[:4000],
                json_schema=schema,
                max_tokens=max_tokens,
                temperature=0.8,
                seed=1,
                timeout=_SECONDS,
            )
        except InvalidRequest as error:
            tally.refuse(schema, error)
            return
        if answer.finish_reason is FinishReason.END_OF_SEQUENCE:
            tally.ended += 1
            _judge(tally, schema, answer.text)

    _all(ask, schemas)
    return tally


def calls(client: Client, schemas: Iterator[Schema], wanted: int, max_tokens: int) -> Tally:
    """Calls of one tool each, whole and streamed, until so many were asked for that something satisfies."""
    tally = Tally("tools")

    def ask(schema: Schema) -> None:
        tally.asked += 1
        options: GenerateOptions = {
            "tools": [Tool("store", "Stores what it is given.", schema)],
            "tool_choice": "required",
            "constrained": True,
            "single_call": True,
            "max_tokens": max_tokens,
            "temperature": 0.8,
            "seed": 1,
        }
        try:
            answer = client.generate("Store an example.", timeout=_SECONDS, **options)
        except InvalidRequest as error:
            tally.refuse(schema, error)
            return
        if answer.finish_reason is not FinishReason.TOOL_CALLS:
            return
        tally.ended += 1
        (call,) = answer.tool_calls
        with client.stream("Store an example.", timeout=_SECONDS, **options) as stream:
            pieces = [piece for delta in stream for piece in delta.tool_calls]
        joined = ToolCall(call.id, pieces[0].name, "".join(piece.arguments for piece in pieces))
        if call.name != "store" or any(piece.name for piece in pieces[1:]):
            tally.wrong.append(f"names of {call} and {joined}")
        elif _judge(tally, schema, call.arguments):
            _judge(Tally("streamed", wrong=tally.wrong), schema, joined.arguments)

    while (missing := wanted - (tally.asked - tally.unsatisfiable)) > 0:
        _all(ask, islice(schemas, missing))
    return tally


def throughput(client: Client, rounds: int, tokens: int) -> None:
    """Tokens a second of 16 clients, held to a schema and not, in turns."""
    for number in range(rounds):
        rates = {}
        for held in (False, True):
            options: dict[str, Any] = {"json_schema": _LETTER} if held else {"min_tokens": tokens}

            def ask(client_number: int, options: dict[str, Any] = options, number: int = number) -> int:
                prompt = f"Write letter {number}.{client_number} about the sea, as JSON."
                answer = client.generate(prompt, max_tokens=tokens, seed=client_number, **options)
                return answer.receipt.usage.completion_tokens

            began = time.perf_counter()
            rates[held] = sum(_all(ask, range(_CLIENTS))) / (time.perf_counter() - began)
        free, held_rate = rates[False], rates[True]
        print(f"16 clients: {free:.0f} tok/s free, {held_rate:.0f} held, {held_rate / free:.2f}")


def _of_tools() -> Iterator[Schema]:
    """Schemas of arguments some of which are required."""
    for start in count(1):
        for schema in draw(200, start):
            if schema.get("type") == "object" and schema.get("required"):
                yield schema


def _all(ask: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    with ThreadPoolExecutor(_CLIENTS) as pool:
        return list(pool.map(ask, items))


def _judge(tally: Tally, schema: Schema, text: str) -> bool:
    try:
        jsonschema.validate(
            json.loads(text), schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
        )
    except OverflowError:
        tally.beyond += 1
        return False
    except (ValueError, jsonschema.ValidationError) as error:
        tally.wrong.append(f"{str(error).splitlines()[0]} in {text!r} for {json.dumps(schema)}")
        return False
    tally.valid += 1
    return True


def _reason(error: InvalidRequest) -> str:
    return error.violations[0].description[:100] if error.violations else error.message[:100]


def main() -> None:
    """Runs all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--schemas", type=int, default=500)
    parser.add_argument("--tools", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=512)
    options = parser.parse_args()
    with (
        Stack(models=[weights.MODEL], worker_options=["--slots", str(_CLIENTS)]) as stack,
        Client(stack.address) as client,
    ):
        throughput(client, options.rounds, 128)
        formats(client, draw(options.schemas, 0), options.max_tokens).show()
        calls(client, _of_tools(), options.tools, options.max_tokens).show()


if __name__ == "__main__":
    main()
