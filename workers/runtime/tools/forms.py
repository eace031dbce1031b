"""The forms in which models write calls of tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class CallForm:
    """How a model writes calls: each a JSON object with the tool's name and the arguments."""

    opening: str = ""
    """What stands before a call, or before the list of calls: text, or the spelling of a control token. Empty
    if nothing does."""
    lead: str = ""
    """What the model was trained to write between the opening and the JSON."""
    closing: str = ""
    """What stands behind a call."""
    arguments: str = "arguments"
    """Name of the object's member that holds the arguments."""
    bare: bool = False
    """Whether an answer that begins with the JSON of a call is one, without the opening."""
    listed: bool = False
    """Whether calls stand in one JSON list."""
    single: bool = False
    """Whether an answer has one call at most."""
    id_prefix: str = "call_"
    id_length: int = 24
    """Letters and digits of a call's identifier behind its prefix."""


HERMES: Final = CallForm(opening="<tool_call>", lead="\n", closing="\n</tool_call>")
"""Of Hermes and Qwen: each call in a pair of tags."""
LLAMA: Final = CallForm(opening="<|python_tag|>", arguments="parameters", bare=True, single=True)
"""Of Llama 3.1 and later: the JSON of one call, with or without a tag before it."""
MISTRAL: Final = CallForm(opening="[TOOL_CALLS]", listed=True, id_prefix="", id_length=9)
"""Of Mistral: a list of calls behind a control token. Its templates want short identifiers."""
UNTRAINED: Final = CallForm(bare=True)
"""For models that have no form of their own: the JSON of a call and nothing else; see ``prompting``."""
UNTRAINED_LIST: Final = CallForm(bare=True, listed=True)
"""The same for several calls."""


def form_of(chat_template: str | None) -> CallForm | None:
    """The form that a model's template shows; ``None`` if it shows none."""
    template = chat_template or ""
    if HERMES.opening in template:
        return HERMES
    if MISTRAL.opening in template:
        return MISTRAL
    # Llama 3.2's own template leaves out the tag for calls that aren't of its built-in tools.
    if LLAMA.opening in template or ('"parameters": ' in template and "ipython" in template):
        return LLAMA
    return None
