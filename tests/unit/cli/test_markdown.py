"""Which part of a text that still grows stands still."""

import io

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from rich.console import Console

from diplex.cli.chat_input import CommandCompleter, history_file
from diplex.cli.markdown import MarkdownStream, finished


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("", 0),
        ("one line", 0),
        ("one\n", 0),
        ("one\n\n", 5),
        ("one\n\ntwo", 5),
        ("one\n\ntwo\n\nthree", 10),
        ("\n\none", 0),
        ("```\ncode\n\nmore", 0),
        ("```\ncode\n\n```\n\nbehind", 15),
    ],
)
def test_blocks_are_finished_at_empty_lines_outside_of_code(text, end):
    assert finished(text) == end


def test_however_a_text_is_cut_it_is_shown_once():
    text = "# Title\n\nA *word*.\n\n```\na = 1\n\nb = 2\n```\n\nThe end."
    written = io.StringIO()
    console = Console(file=written, force_terminal=False, width=40)
    with MarkdownStream(console) as stream:
        for character in text:
            stream.write(character)
    shown = written.getvalue()
    assert [shown.count(part) for part in ("Title", "A word.", "a = 1", "b = 2", "The end.")] == [1] * 5


def completed(text, tmp_path):
    completer = CommandCompleter({"/model": "", "/image": ""}, lambda: ["SmolLM2", "tiny"])
    document = Document(text.format(tmp_path))
    return [
        document.text[: len(document.text) + each.start_position] + each.text
        for each in completer.get_completions(document, CompleteEvent())
    ]


def test_commands_models_and_files_are_completed(tmp_path):
    (tmp_path / "lunch.jpg").touch()
    assert completed("/mo", tmp_path) == ["/model"]
    assert completed("/model smol", tmp_path) == ["/model SmolLM2"]
    assert completed("/image {}/lu", tmp_path) == [f"/image {tmp_path}/lunch.jpg"] or "nch.jpg" in str(
        completed("/image {}/lu", tmp_path)
    )
    assert completed("hello", tmp_path) == []


def test_the_history_lies_where_state_belongs(tmp_path):
    assert history_file({"XDG_STATE_HOME": "/state"}) == tmp_path.__class__("/state/diplex/chat_history")
    assert str(history_file({})).endswith("/.local/state/diplex/chat_history")
