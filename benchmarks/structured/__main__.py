"""Which schemas are accepted, and whether random walks through their masks end and validate.

Run as ``python -m benchmarks.structured`` in the environment of ``make test``; downloads what it lacks.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jsonschema
import numpy as np

from benchmarks import weights
from benchmarks.structured import public_suite
from benchmarks.structured.generated import draw, satisfiable
from benchmarks.structured.walk import Wanderer, walk
from diplex.errors import InvalidRequest
from workers.runtime.artefact import ModelDescription
from workers.runtime.structured import GrammarCompiler, JsonSchema, apply_masks
from workers.runtime.text.tokenizer import Tokenizer

Schema = dict[str, Any] | bool
Tried = tuple[str, Schema, Callable[[], bool]]
"""Label, schema, and whether something satisfies it."""


class Trial:
    """Tries schemas and counts what becomes of them."""

    def __init__(
        self, compiler: GrammarCompiler, tokenizer: Tokenizer, vocab_size: int, wanderer: Wanderer
    ) -> None:
        self._compiler = compiler
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._wanderer = wanderer

    def run(self, title: str, schemas: Sequence[Tried], walks: int, max_tokens: int) -> None:
        """Try schemas and print the shares."""
        refused: Counter[str] = Counter()
        unsatisfiable = accepted = walked = finished = judged = valid = 0
        slowest = 0.0
        for label, schema, can_be_satisfied in schemas:
            try:
                started = time.perf_counter()
                try:
                    grammar = self._compiler.compile(JsonSchema(json.dumps(schema)))
                finally:
                    slowest = max(slowest, time.perf_counter() - started)
            except InvalidRequest as error:
                if can_be_satisfied():
                    refused[f"{label}{_reason(error)}"] += 1
                else:
                    unsatisfiable += 1
                continue
            accepted += 1
            for _ in range(walks):
                way = walk(grammar, self._tokenizer, self._vocab_size, self._wanderer, max_tokens, jump=True)
                walked += 1
                if not way.finished:
                    print(f"  not finished: {_short(schema)} {way.failure} {way.text[:80]!r}")
                    continue
                finished += 1
                try:
                    found_valid = validates(schema, way.text)
                except re.error as error:
                    print(f"  the validator can't judge: {_short(schema)} {error}")
                    continue
                judged += 1
                valid += found_valid
                if not found_valid:
                    print(f"  INVALID: {json.dumps(schema)} -> {way.text!r}")
        asked = len(schemas) - unsatisfiable
        print(f"{title}: {len(schemas)} schemas, {unsatisfiable} that nothing satisfies refused as such")
        print(f"  accepted {accepted} of the {asked} others, {accepted / asked:.1%}")
        print(f"  slowest compilation: {1000 * slowest:.0f} ms")
        print(f"  walks that ended in {max_tokens} tokens: {finished} of {walked}, {finished / walked:.1%}")
        print(f"  of these valid: {valid} of {judged} that the validator can judge")
        for reason, times in refused.most_common():
            print(f"  refused {times:4d}: {reason}")


def validates(schema: Schema, text: str) -> bool:
    """Whether ``jsonschema`` finds a text valid, formats included.

    Raises:
        re.error: A pattern that Python's expressions don't know.
    """
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    return bool(validator(schema, format_checker=validator.FORMAT_CHECKER).is_valid(json.loads(text)))


def mask_cost(
    compiler: GrammarCompiler, tokenizer: Tokenizer, vocab_size: int, rows: int, steps: int
) -> None:
    """Print the milliseconds that holding a batch takes a step."""
    forms = {
        "strings": ({"type": "object", "properties": {"a": {"type": "string"}}}, '{"a":"some words '),
        "structure": ({"type": "object", "properties": {"a": {"type": "integer"}}}, '{"a":12'),
    }
    for name, (schema, text) in forms.items():
        grammar = compiler.compile(JsonSchema(json.dumps(schema)))
        matchers = [grammar.matcher() for _ in range(rows)]
        for matcher in matchers:
            for token in tokenizer.encode(text):
                matcher.accept(token)
        logits = np.zeros((rows, vocab_size), np.float32)
        times = []
        for _ in range(steps):
            logits.fill(0)
            started = time.perf_counter()
            apply_masks(logits, enumerate(matchers))
            times.append(time.perf_counter() - started)
        median = 1000 * float(np.median(times))
        print(f"masks, {rows} rows x {vocab_size}, within {name}: {median:.2f} ms a step")


def _reason(error: InvalidRequest) -> str:
    """The message without what differs from schema to schema."""
    return error.message.partition(": at $")[2].partition(": ")[2][:90]


def _short(schema: Schema) -> str:
    text = json.dumps(schema)
    return text if len(text) < 160 else f"{text[:157]}..."


def main() -> None:
    """Read the command line, try, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=weights.MODEL, help="whose tokenizer and vocabulary")
    parser.add_argument("--schemas", type=int, default=500)
    parser.add_argument("--walks", type=int, default=1, help="walks a schema")
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    found = weights.find(options.model)
    tokenizer = Tokenizer.from_file(found.tokenizer)
    description = ModelDescription.load(found.folder)
    vocab_size, eos = description.vocab_size, description.eos_token_ids
    compiler = GrammarCompiler(tokenizer, vocab_size, eos)
    trial = Trial(compiler, tokenizer, vocab_size, Wanderer(tokenizer, eos, vocab_size, options.seed))
    mask_cost(compiler, tokenizer, vocab_size, rows=32, steps=200)
    generated = [("", schema, partial(satisfiable, schema)) for schema in draw(options.schemas, options.seed)]
    trial.run("generated", generated, options.walks, options.max_tokens)
    suite = public_suite.cases()
    print("out of the suite's scope:")
    for file, why in public_suite.OUT.items():
        print(f"  {file}: {why}")
    for title, in_scope in (("suite, in scope", True), ("suite, out of scope", False)):
        chosen = [
            (f"{c.file}: ", c.schema, partial(bool, c.satisfiable)) for c in suite if c.in_scope is in_scope
        ]
        trial.run(title, chosen, options.walks, options.max_tokens)


if __name__ == "__main__":
    main()
