"""Chat templates: a conversation to the prompt that its model was trained on.

The dialect is that of ``apply_chat_template`` in transformers: Jinja with trimmed blocks, loop controls,
``tojson`` that escapes no HTML, ``raise_exception``, ``strftime_now`` and the ``generation`` block.

Templates come with models, so they are trusted about as far as a model's graph is, and conversations aren't
trusted at all. Templates run in Jinja's sandbox, which keeps them from Python's internals and from changing
their input. Also bounded are the length of the result, the total of all ranges looped over, and repetition
and powers (``"x" * n``). What isn't bounded is what a hostile template can do with nested loops over
conversations, concatenation and the widths of formats.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from diplex.errors import InvalidRequest, UnsupportedModel

MAX_RENDERED: Final = 16 * 1024 * 1024
"""Characters that a rendered conversation may have: far beyond any context, and small against memory."""
MAX_RANGE: Final = 100_000
"""Steps that all ``range`` of one rendering may have together; Jinja's own limit for a single one."""
_MOST_BITS: Final = 4096  # of a power of integers


class ChatTemplate:
    """A compiled chat template. Safe to use from several threads.

    Args:
        source: The template, as in a model's ``chat_template``.
        bos_token: Text of the begin-of-sequence token; empty if the model has none.
        eos_token: Text of the end-of-sequence token; empty if the model has none.
        clock: The time for ``strftime_now``; the local time unless given.

    Raises:
        UnsupportedModel: The source is no valid template.
    """

    def __init__(
        self,
        source: str,
        *,
        bos_token: str,
        eos_token: str,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._clock = clock or _local_time
        environment = _Environment()
        environment.globals["strftime_now"] = self._strftime_now
        try:
            self._template = environment.from_string(source)
        except (jinja2.TemplateError, RecursionError, MemoryError, SyntaxError) as error:
            raise UnsupportedModel(f"the model's chat template is broken: {error}") from error

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, object]] | None = None,
    ) -> str:
        """The prompt of a conversation.

        Pass messages and tools through ``tokenizer.control.break_in_all`` first, so that their text stays
        text.

        Args:
            messages: Mappings with ``role``, ``content`` and whatever else the template knows.
            add_generation_prompt: End with the beginning of the assistant's turn.
            tools: JSON schemas of functions, for templates that know them.

        Raises:
            InvalidRequest: The template refuses the conversation, or the result is too long.
            UnsupportedModel: The template tries what the sandbox forbids.
        """
        variables = {
            **self._tokens,
            "messages": messages,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            "range": _Ranges().range,
        }
        try:
            return _join(self._template.generate(variables))
        except SecurityError as error:
            raise UnsupportedModel(f"the model's chat template is unsafe: {error}") from error
        except InvalidRequest:
            raise
        except (
            Exception
        ) as error:  # Whatever comes out of the template is the template's or the conversation's.
            raise InvalidRequest.of_field("chat", str(error) or type(error).__name__) from error

    def _strftime_now(self, layout: str) -> str:
        return self._clock().strftime(layout)


class _Generation(Extension):
    """``{% generation %}`` marks what an assistant wrote, for training. Here it renders what is inside."""

    tags = {"generation"}  # noqa: RUF012  Jinja declares it so.

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_inside"), [], [], body).set_lineno(line)

    @staticmethod
    def _inside(caller: Macro) -> str:
        return str(caller())


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja as transformers sets it up, with bounds on repetition and powers."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
        )
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _raise_exception

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and isinstance(left, int) and left.bit_length() * right > _MOST_BITS:
            raise SecurityError("a power is too large")
        if operator == "*":
            for sequence, times in ((left, right), (right, left)):
                if isinstance(sequence, str | list | tuple) and len(sequence) * times > MAX_RENDERED:
                    raise SecurityError("a repetition is too long")
        return super().call_binop(context, operator, left, right)


class _Ranges:
    """The ``range`` of one rendering, which bounds how far all of them together may go."""

    def __init__(self) -> None:
        self._left = MAX_RANGE

    def range(self, *bounds: int) -> range:
        steps = range(*bounds)
        try:
            self._left -= len(steps)
        except OverflowError:
            self._left = -1
        if self._left < 0:
            raise SecurityError(f"its ranges exceed {MAX_RANGE} steps")
        return steps


def _join(pieces: Any) -> str:
    """Join what a template yields, within :data:`MAX_RENDERED`."""
    taken: list[str] = []
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > MAX_RENDERED:
            raise InvalidRequest.of_field("chat", f"renders to more than {MAX_RENDERED} characters")
        taken.append(piece)
    return "".join(taken)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _tojson(
    value: object,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _local_time() -> datetime:
    return datetime.now().astimezone()
