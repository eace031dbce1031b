"""Structured output: holds what a model writes to JSON, a schema, a regular expression or a grammar.

``GrammarCompiler`` (one a model) turns a format into a ``Grammar``, off the engine's thread;
``Grammar.matcher`` gives each sequence a ``Matcher``, which says which tokens may come next; ``apply_masks``
holds a batch's logits to that.
"""

from workers.runtime.structured.closing import Closing, JsonPlace
from workers.runtime.structured.compiler import Grammar, GrammarCompiler
from workers.runtime.structured.masks import apply_masks, mask_words
from workers.runtime.structured.matcher import Matcher
from workers.runtime.structured.response_format import (
    JsonFormat,
    JsonSchema,
    LarkGrammar,
    Regex,
    ResponseFormat,
)

__all__ = [
    "Closing",
    "Grammar",
    "GrammarCompiler",
    "JsonFormat",
    "JsonPlace",
    "JsonSchema",
    "LarkGrammar",
    "Matcher",
    "Regex",
    "ResponseFormat",
    "apply_masks",
    "mask_words",
]
