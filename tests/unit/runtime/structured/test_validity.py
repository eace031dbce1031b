"""Whatever random walks through the masks write validates."""

import json

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.structured.generated import schemas
from benchmarks.structured.walk import Wanderer, walk
from diplex.errors import InvalidRequest
from tests.fake_backend import VOCABULARY, byte_tokenizer
from workers.runtime.structured import GrammarCompiler, JsonSchema

TOKENIZER = byte_tokenizer()
EOS = (2,)
COMPILER = GrammarCompiler(TOKENIZER, VOCABULARY, EOS)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(schema=schemas(), seed=st.integers(0, 1000), jump=st.booleans())
def test_random_walks_validate(schema, seed, jump):
    try:
        grammar = COMPILER.compile(JsonSchema(json.dumps(schema)))
    except InvalidRequest as refusal:
        assert " at $" in refusal.message  # noqa: PT017  refused with a place
        return
    way = walk(grammar, TOKENIZER, VOCABULARY, Wanderer(TOKENIZER, EOS, VOCABULARY, seed), 400, jump=jump)
    assert not way.failure
    if way.finished:
        jsonschema.validate(
            json.loads(way.text),
            schema,
            jsonschema.Draft202012Validator,
            format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
        )
