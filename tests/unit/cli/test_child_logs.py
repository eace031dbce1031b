"""How lines of children look."""

import io
import json
import logging

from rich.console import Console

from diplex.cli.child_logs import JsonLogs, ReadableLogs, readable_line

ENTRY = json.dumps(
    {
        "event": "listening",
        "level": "info",
        "timestamp": "2030-01-02T03:04:05.678Z",
        "service": "gateway",
        "address": "unix:/x",
    }
)


def readable(level, *lines):
    out = io.StringIO()
    logs = ReadableLogs(Console(file=out, highlight=False, soft_wrap=True), ["worker", "gateway"], level)
    for name, text in lines:
        logs.line(name, text)
    return out.getvalue()


def test_entries_are_one_line_with_their_name():
    assert readable(logging.INFO, ("gateway", ENTRY)) == "gateway │ 03:04:05 listening address=unix:/x\n"


def test_entries_below_the_level_are_left_out_and_other_lines_never():
    error = json.dumps({"event": "broke", "level": "error", "exception": "Trace\n  back"})
    text = readable(logging.WARNING, ("gateway", ENTRY), ("worker", "plain [text]"), ("worker", error))
    assert text.splitlines() == [
        "worker  │ plain [text]",
        "worker  │  error broke",
        "worker  │ Trace",
        "worker  │   back",
    ]


def test_what_is_no_entry_is_itself():
    for text in ("plain", "{broken", '{"no": "event"}', ""):
        assert readable_line(text) == text


def test_json_passes_entries_on_and_wraps_the_rest():
    lines = []
    logs = JsonLogs(lines.append)
    logs.line("gateway", ENTRY)
    logs.line("worker", "plain")
    logs.remark("ready", address="x")
    assert lines[0] == ENTRY + "\n"
    assert json.loads(lines[1]) == {"service": "worker", "level": "info", "event": "plain"}
    assert json.loads(lines[2])["address"] == "x"
