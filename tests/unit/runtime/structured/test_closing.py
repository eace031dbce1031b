"""What is open is closed: a model that chooses at random comes to an end within a few tokens."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
import pytest

from tests.fake_backend import VOCABULARY, byte_tokenizer
from workers.runtime.structured import Closing, GrammarCompiler, JsonPlace, JsonSchema, mask_words

TOKENIZER = byte_tokenizer()
END = TOKENIZER.id_of("<|im_end|>")
CLOSING = Closing(TOKENIZER.token_bytes, VOCABULARY, (END,))
COMPILER = GrammarCompiler(TOKENIZER, VOCABULARY, (END,))

ANYTHING = {}
NUMBERS = {
    "type": "object",
    "properties": {"a": {"type": "number"}, "b": {"type": "integer"}, "c": {"type": "array"}},
    "required": ["a", "b", "c"],
}
ADDRESS = {"type": "array", "items": {"type": "string", "format": "uri"}, "minItems": 1}


@pytest.mark.parametrize("schema", [ANYTHING, NUMBERS, ADDRESS], ids=["anything", "numbers", "address"])
@pytest.mark.parametrize("seed", range(6))
def test_random_json_ends_soon_once_it_is_to_be_closed(schema, seed):
    random = np.random.default_rng(seed)
    matcher, place = COMPILER.compile(JsonSchema(json.dumps(schema))).matcher(), JsonPlace()
    mask, text = np.empty(mask_words(VOCABULARY), np.int32), b""
    for step in range(400):
        if matcher.stopped:
            break
        matcher.fill(mask)
        if step >= 40:
            CLOSING.narrow(mask, place)
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
        token = int(random.choice(allowed))
        if token == END:
            break
        matcher.accept(token)
        place.go_on(TOKENIZER.token_bytes(token))
        text += TOKENIZER.token_bytes(token)
    assert step < 399
    jsonschema.validate(json.loads(text), schema)


def test_places():
    place = JsonPlace()
    inside = []
    for byte in rb'{"a\"\\": "b"}':
        place.go_on(bytes([byte]))
        inside.append(place.in_string)
    assert "".join("s" if each else "." for each in inside) == ".ssssss...ss.."
