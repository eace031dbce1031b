"""What is accepted, what is refused, and what is said about it."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from diplex.errors import InvalidRequest, UnsupportedFeature
from tests.fake_backend import VOCABULARY, byte_tokenizer
from workers.runtime.structured import (
    GrammarCompiler,
    JsonFormat,
    JsonSchema,
    LarkGrammar,
    Regex,
    ResponseFormat,
)

TOKENIZER = byte_tokenizer()
EOS = 2


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    return GrammarCompiler(TOKENIZER, VOCABULARY, [EOS])


def writes(compiler: GrammarCompiler, form: ResponseFormat, text: str) -> bool:
    """Whether a text is a whole output."""
    matcher = compiler.compile(form).matcher()
    tokens = TOKENIZER.encode(text)
    return matcher.allowed([*tokens, EOS]) == len(tokens) + 1


def schema_of(value: object) -> JsonSchema:
    return JsonSchema(json.dumps(value))


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (JsonFormat(), ['{"a": [1, null]}', "3", '"é"'], ["{", "[1,]", '{"a":   1}']),
        (Regex("a{2,3}|b"), ["aa", "aaa", "b"], ["a", "ab", ""]),
        (LarkGrammar('start: "(" start ")" | "x"'), ["x", "((x))"], ["(x", "x)"]),
        (schema_of({"type": "integer", "minimum": 5}), ["5", "17"], ["4", "1.5", "-7"]),
        (schema_of({"exclusiveMaximum": 1, "type": "number"}), ["0.5", "-3"], ["1", "0.99999999999999999"]),
        (
            schema_of({"properties": {"a": {"type": "null"}}}),
            ['{"a":null}', "{}", "7"],
            ['{"a":1}', '{"\\u0061":1}'],
        ),
        (schema_of({"type": "string", "pattern": "^\\W$"}), ['"!"'], ['"a"', '"é"']),
        (schema_of({"type": "string", "format": "date"}), ['"2024-02-29"'], ['"2023-02-29"', '"1900-02-29"']),
        (schema_of({"contains": {"type": "integer"}, "type": "array"}), ['[1, "a"]'], ["[]", '["a"]']),
        (schema_of({"enum": ["a", "b"], "not": {"const": "a"}}), ['"b"'], ['"a"']),
        (
            schema_of({"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True}),
            ["[]", '["a","b"]'],
            ['["a","a"]'],
        ),
        (
            schema_of(
                {"type": "object", "dependentRequired": {"a": ["b"]}, "properties": {"a": {}, "b": {}}}
            ),
            ['{"a":1,"b":2}', '{"b":2}'],
            ['{"a":1}'],
        ),
        (
            schema_of({"if": {"type": "integer"}, "then": {"minimum": 5}, "else": {"type": "string"}}),
            ["6", '"x"'],
            ["4", "null"],
        ),
        (schema_of({"oneOf": [{"minimum": 2}, {"maximum": 4}], "type": "integer"}), ["1", "5"], ["3"]),
        (
            schema_of({"type": "object", "minProperties": 1, "properties": {"a": {}, "b": {}}}),
            ['{"a":1}', '{"b":1}'],
            ["{}"],
        ),
        (
            schema_of({"items": {"enum": [*range(9)]}, "uniqueItems": True, "minItems": 2, "type": "array"}),
            ["[7,1]", "[0,8,2]"],
            ["[0,0]", "[0]", "[0,1,0]"],
        ),
        (
            schema_of({"items": {"type": "null"}, "uniqueItems": True, "type": "array"}),
            ["[]", "[null]"],
            ["[null,null]"],
        ),
        (
            schema_of({"type": "object", "minProperties": 2, "additionalProperties": {"type": "null"}}),
            ['{"key1":null,"b":null}'],
            ['{"key1":null}', '{"b":null,"b":null}', '{"key1":1,"b":null}'],
        ),
        (
            schema_of({"type": "object", "minProperties": 3, "propertyNames": {"enum": ["x", "y", "z"]}}),
            ['{"x":1,"y":2,"z":3}'],
            ['{"x":1,"y":2}', '{"key1":1,"key2":2,"z":3}'],
        ),
        (
            schema_of(
                {
                    "type": "object",
                    "minProperties": 2,
                    "patternProperties": {"^key": {"type": "null"}, "^x-": {"type": "boolean"}},
                    "additionalProperties": False,
                }
            ),
            ['{"key1":null,"x-a":true}'],
            ['{"key1":1,"x-a":true}', '{"x-a":true,"x-a":true}'],
        ),
        (
            schema_of({"type": "number", "multipleOf": 0.01, "minimum": 0}),
            ["3", "0.25", "7.50"],
            ["0.07", "0.1", "0.125"],
        ),
        (
            schema_of({"pattern": "^(?!no|any)[a-z]+$", "type": "string"}),
            ['"yes"', '"an"'],
            ['"now"', '"any"'],
        ),
        (schema_of({"pattern": "^(?!no$).*", "type": "string"}), ['"yes"', '"now"'], ['"no"']),
        (
            schema_of({"pattern": "^(?=.*[0-9])(?=.*[A-Z]).{3,}$", "type": "string"}),
            ['"aB1"', '"1xxxB"'],
            ['"abc"', '"AB"', '"ab1"'],
        ),
        (schema_of({"not": {"oneOf": [{"type": "string"}, {"minimum": 3}]}}), ["2"], ['"a"', "4"]),
        (
            schema_of({"type": "string", "format": "regex"}),
            [r'"^a+\\d{2}[^x_]$"', '"(?:a|b)?c"'],
            ['"("', '"*"', '"[z-a]"', r'"\\1"'],
        ),
        (
            schema_of(
                {"$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}}}, "$ref": "#/$defs/t"}
            ),
            ["[[],[[]]]"],
            ["[1]"],
        ),
    ],
)
def test_what_may_be_written(compiler, form, good, bad):
    assert [text for text in good if not writes(compiler, form, text)] == []
    assert [text for text in bad if writes(compiler, form, text)] == []


@pytest.mark.parametrize(
    ("schema", "kind", "said"),
    [
        ({"properties": {"a": {"items": {"type": "strnig"}}}}, InvalidRequest, "$.properties.a.items.type"),
        ({"properties": {"a b": {"minLength": -1}}}, InvalidRequest, "$.properties['a b'].minLength"),
        ({"anyOf": [{}, {"$ref": "#/$defs/none"}]}, InvalidRequest, "$.anyOf[1].$ref"),
        (
            {"type": "object", "required": ["a"], "properties": {"a": False}},
            InvalidRequest,
            "nothing satisfies the schema",
        ),
        ({"type": "string", "pattern": "("}, InvalidRequest, "$.pattern"),
        ({"uniqueItems": True}, UnsupportedFeature, "$.uniqueItems"),
        (
            {"minProperties": 2, "propertyNames": {"pattern": "^[!?]{3}$"}},
            UnsupportedFeature,
            "$.minProperties: keys that aren't named",
        ),
        ({"format": "unknown"}, UnsupportedFeature, "$.format: the format 'unknown'"),
        ({"format": "idn-hostname"}, UnsupportedFeature, "$.format"),
        ({"not": {"pattern": "a"}}, UnsupportedFeature, "$.not.pattern"),
        ({"items": {"pattern": "(?=a)b"}}, UnsupportedFeature, "$.items.pattern"),
        ({"pattern": "\\bfoo"}, UnsupportedFeature, "word boundaries"),
        ({"pattern": "(a)\\1"}, UnsupportedFeature, "back-references"),
        ({"pattern": "a{5000}"}, UnsupportedFeature, "repeats more than"),
        ({"multipleOf": 0.7}, UnsupportedFeature, "$.multipleOf"),
        ({"pattern": "^(?!a+)b"}, UnsupportedFeature, "look-around"),
        ({"pattern": "^(?=a)b|c"}, UnsupportedFeature, "look-around"),
        ({"const": 2**60}, UnsupportedFeature, "$.const"),
        ({"enum": ["a\u0001"]}, UnsupportedFeature, "U+0001"),
        ({"$ref": "http://example.com/s"}, UnsupportedFeature, "$.$ref"),
        ({"$dynamicRef": "#a"}, UnsupportedFeature, "$.$dynamicRef"),
        ({"dependencies": {"a": ["b"]}}, UnsupportedFeature, "$.dependencies"),
        ({"allOf": [{}], "unevaluatedProperties": False}, UnsupportedFeature, "$.unevaluatedProperties"),
        ({"patternProperties": {"^a": {"type": "null"}, "b$": {}}}, UnsupportedFeature, "not disjoint"),
        ({"$schema": "https://example.com/mine"}, UnsupportedFeature, "$.$schema"),
        ({"properties": {"a": {"$id": "b", "type": "null"}}}, UnsupportedFeature, "$.properties.a.$id"),
        ({"maxItems": 10**9}, UnsupportedFeature, "$.maxItems"),
        ({"minLength": 10**9}, UnsupportedFeature, "$.minLength"),
        ({"propertyNames": {"format": "date"}}, UnsupportedFeature, "$.propertyNames"),
    ],
)
def test_refusals_name_the_place(compiler, schema, kind, said):
    with pytest.raises(InvalidRequest) as refusal:
        compiler.compile(schema_of(schema))
    assert type(refusal.value) is kind
    assert said in refusal.value.message
    assert [violation.field for violation in refusal.value.violations] == [
        "output.response_format.json_schema"
    ]


@pytest.mark.parametrize(
    ("form", "field"),
    [
        (JsonSchema("{"), "json_schema"),
        (JsonSchema("[]"), "json_schema"),
        (JsonSchema('{"minimum": NaN}'), "json_schema"),
        (JsonSchema("[" * 100_000), "json_schema"),
        (JsonSchema('{"not":' * 100 + "{}" + "}" * 100), "json_schema"),
        (JsonSchema(" " * 300_000 + "{}"), "json_schema"),
        (JsonSchema("false"), "json_schema"),
        (Regex("[a"), "regex"),
        (Regex("(?=a)b"), "regex"),
        (Regex(r"[^\s\S]"), "regex"),
        (Regex("a" * 70_000), "regex"),
        (LarkGrammar("start: nothing"), "grammar"),
        (LarkGrammar("no grammar"), "grammar"),
        (LarkGrammar('start: %json {"uniqueItems": true, "x-guidance": {"lenient": true}}'), "grammar"),
        (LarkGrammar('{"grammars":[{"json_schema":{}}]}'), "grammar"),
    ],
)
def test_broken_formats_are_refused(compiler, form, field):
    with pytest.raises(InvalidRequest) as refusal:
        compiler.compile(form)
    assert [violation.field for violation in refusal.value.violations] == [f"output.response_format.{field}"]


def _nested(levels, wrap, schema):
    for _ in range(levels):
        schema = wrap(schema)
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        _nested(14, lambda s: {"anyOf": [s, s]}, {"type": "string"}),
        _nested(10, lambda s: {"oneOf": [s, {"properties": {"x": s}}]}, {"minimum": 1}),
        {"allOf": [{"anyOf": [{"properties": {f"a{i}": {}}}, {"required": [f"b{i}"]}]} for i in range(30)]},
        {"dependentRequired": {f"p{i}": [f"p{i + 1}"] for i in range(200)}},
        {"allOf": [{"$ref": "#"}]},
    ],
)
def test_bombs_are_refused(compiler, schema):
    with pytest.raises(InvalidRequest):
        compiler.compile(schema_of(schema))


def test_compiled_grammars_are_shared_and_formats_cross_a_pipe(compiler):
    forms = [JsonFormat(), JsonSchema("{}"), Regex("a"), LarkGrammar('start: "a"')]
    with ThreadPoolExecutor(4) as pool:
        for form in forms:
            copy = pickle.loads(pickle.dumps(form))  # noqa: S301
            assert copy == form
            grammars = list(pool.map(compiler.compile, [form, copy] * 4))
            assert compiler.compile(form) is compiler.compile(copy)
            assert compiler.compile(form) in grammars


def test_the_cache_is_bounded(compiler):
    first = compiler.compile(Regex("first"))
    for i in range(64):
        compiler.compile(Regex(f"other {i}"))
    assert compiler.compile(Regex("first")) is not first


def test_logits_may_be_wider_than_the_vocabulary():
    compiler = GrammarCompiler(TOKENIZER, VOCABULARY + 40, [EOS])
    mask = np.empty(-(-(VOCABULARY + 40) // 32), np.int32)
    compiler.compile(Regex("(?s:.*)")).matcher().fill(mask)
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little")
    assert bits[EOS]
    assert not bits[VOCABULARY:].any()
    assert not bits[[0, 1]].any()
