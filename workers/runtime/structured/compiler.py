"""Formats, compiled against a model's vocabulary."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import llguidance
import numpy as np

from diplex.errors import FieldViolation, InvalidRequest, UnsupportedFeature
from workers.runtime.structured.masks import mask_words
from workers.runtime.structured.matcher import Matcher
from workers.runtime.structured.response_format import (
    JsonFormat,
    JsonSchema,
    LarkGrammar,
    Regex,
    ResponseFormat,
)
from workers.runtime.structured.schema.keywords import Schema
from workers.runtime.structured.schema.lowering import Lowered, lower
from workers.runtime.structured.schema.refusals import (
    Path,
    SchemaInvalid,
    SchemaRefused,
    SchemaUnsupported,
)
from workers.runtime.text.tokenizer import Tokenizer

MAX_TEXT: Final = 64 * 1024
"""Most bytes of a regular expression or a grammar."""
CACHED: Final = 64
"""Grammars that a compiler keeps, those used last."""
_WHITESPACE: Final = r" |\n {0,16}|\n\t{0,8}"
"""What may stand between the tokens of JSON: a space, or a line's end with an indent, not more."""
_ESCAPES: Final = 'nrbtf\\"'
"""Escapes of strings. There is no ``u``: by it a key could be spelt so that its name's rule doesn't apply."""
_FIELDS: Final = {
    JsonFormat: "json",
    JsonSchema: "json_schema",
    Regex: "regex",
    LarkGrammar: "grammar",
}
"""Field of the output options' response format."""
_LIMITS: Final = llguidance.LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,
    max_lexer_states=50_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)
"""Bounds of the library: about 20 ms of work to begin a grammar, 14 ms a step; 1 to 2 KB a state."""
_MAX_BLAMED: Final = 400
"""Most parts of a schema that are tried to find the one at fault."""


class Grammar:
    """A compiled format. Safe to use from several threads.

    Args:
        matcher: The library's matcher, at the beginning; taken over.
        field: Field of the request that named the format.
    """

    def __init__(self, matcher: llguidance.LLMatcher, field: str) -> None:
        self._origin = Matcher(matcher, field)
        self._lock = threading.Lock()

    def matcher(self) -> Matcher:
        """A matcher for one more sequence, at the beginning."""
        with self._lock:
            return self._origin.clone()


class GrammarCompiler:
    """Compiles formats for one model. Safe to use from several threads; drops the GIL while it compiles.

    Args:
        tokenizer: The model's.
        vocab_size: Width of the model's logits, at least the tokenizer's size.
        eos_token_ids: Tokens that end a sequence.

    Raises:
        UnsupportedFeature: The vocabulary's text can't be told from its tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_token_ids: Sequence[int]) -> None:
        try:
            self._tokenizer = llguidance.LLTokenizer(
                tokenizer.to_json(), n_vocab=vocab_size, eos_token=list(eos_token_ids)
            )
        except Exception as error:  # The library raises nothing more specific.
            raise _unsupported(
                "output.response_format", f"this model's tokenizer allows no structured output: {error}"
            ) from error
        self._vocab_size = vocab_size
        self._cache: OrderedDict[tuple[ResponseFormat, str], Grammar] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, response_format: ResponseFormat, field: str = "") -> Grammar:
        """Compile a format, or find it compiled.

        Args:
            response_format: What outputs are to be.
            field: Field of the request that names it, for errors; empty for the one in the output options.

        Raises:
            InvalidRequest: The format is broken.
            UnsupportedFeature: Outputs can't be held to it, or it is over a limit.
        """
        field = field or f"output.response_format.{_FIELDS[type(response_format)]}"
        key = (response_format, field)
        with self._lock:
            if grammar := self._cache.get(key):
                self._cache.move_to_end(key)
                return grammar
        grammar = Grammar(self._compiled(response_format, field), field)
        with self._lock:
            self._cache[key] = grammar
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return grammar

    def _compiled(self, response_format: ResponseFormat, field: str) -> llguidance.LLMatcher:
        match response_format:
            case JsonFormat():
                return self._started(_json_grammar({}), field)
            case JsonSchema(text):
                return self._schema(text, field)
            case Regex(pattern):
                _check_length(pattern, field)
                return self._started(llguidance.LLMatcher.grammar_from_regex(pattern), field)
            case LarkGrammar(text):
                _check_length(text, field)
                if re.search(r"%(json|lark|regex)\b", text):
                    raise _unsupported(field, "grammars within the grammar aren't supported")
                return self._started(json.dumps({"grammars": [{"lark_grammar": text}]}), field)

    def _started(self, grammar: str, field: str) -> llguidance.LLMatcher:
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0, limits=_LIMITS)
        if error := self._error(matcher):
            raise (_unsupported if _is_limit(error) else InvalidRequest.of_field)(field, error)
        return matcher

    def _schema(self, text: str, field: str) -> llguidance.LLMatcher:
        try:
            lowered = lower(text)
            matcher = llguidance.LLMatcher(
                self._tokenizer, _json_grammar(lowered.schema), log_level=0, limits=_LIMITS
            )
            if error := self._error(matcher):
                raise self._blamed(lowered, error)
        except SchemaInvalid as error:
            raise InvalidRequest.of_field(field, str(error)) from error
        except SchemaRefused as error:
            raise _unsupported(field, str(error)) from error
        return matcher

    def _error(self, matcher: llguidance.LLMatcher) -> str:
        """Why nothing can be written from the beginning of a grammar; empty if something can."""
        if not matcher.is_error():
            mask = np.empty(mask_words(self._vocab_size), np.int32)
            matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        return matcher.get_error().strip()

    def _blamed(self, lowered: Lowered, error: str) -> SchemaRefused:
        """The error, with the innermost part of the schema that has it too."""
        path: Path = ()
        for place, part in lowered.parts[:_MAX_BLAMED]:
            if not isinstance(part, dict):
                continue
            grammar = _json_grammar({**part, "$defs": lowered.definitions} if lowered.definitions else part)
            failed, messages = llguidance.LLMatcher.validate_grammar_with_warnings(
                grammar, self._tokenizer, limits=_LIMITS
            )
            if failed and _kind(messages[0]) == _kind(error):
                path, error = place, messages[0]
                break
        if "NoExtension" in error:
            error = f"{_UNSATISFIABLE}: no text"
        if lowered.partial and _kind(error) == _UNSATISFIABLE:
            return SchemaUnsupported(
                path, f"no value of what can be enforced satisfies it ({_first_line(error)})"
            )
        if _kind(error) == _UNSATISFIABLE:
            return SchemaInvalid(path, f"nothing satisfies the schema ({_first_line(error)})")
        return SchemaUnsupported(path, _first_line(error))


def _json_grammar(schema: Schema) -> str:
    if isinstance(schema, bool):
        schema = {} if schema else {"allOf": [False]}
    return llguidance.LLMatcher.grammar_from_json_schema(
        schema, overrides={"whitespace_pattern": _WHITESPACE, "json_allowed_escapes": _ESCAPES}
    )


_UNSATISFIABLE: Final = "Unsatisfiable schema"


def _kind(error: str) -> str:
    """What an error of the library begins with, without what differs from place to place."""
    return _UNSATISFIABLE if _UNSATISFIABLE in error else error[:12]


def _is_limit(error: str) -> bool:
    return bool(
        re.search(r"too (large|complex|many|big)|limit|not supported|exceed|fuel", error, re.IGNORECASE)
    )


def _check_length(text: str, field: str) -> None:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT:
        raise _unsupported(field, f"is longer than {MAX_TEXT} bytes")


def _first_line(error: str) -> str:
    return error.strip().partition("\n")[0]


def _unsupported(field: str, description: str) -> UnsupportedFeature:
    return UnsupportedFeature(f"{field}: {description}", violations=[FieldViolation(field, description)])
