"""What a run keeps, what it skips, and how rounds become ratios."""

from __future__ import annotations

import pytest

from benchmarks.suite.cells import FULL, QUICK, LoadCell, Task
from benchmarks.suite.machine import Machine
from benchmarks.suite.report import report
from benchmarks.suite.runner import Record, Results
from benchmarks.suite.summary import Summary

CELL = LoadCell(2, 38, 8)
TASK = Task(CELL, 2)


def records(server: str, *rates: float) -> list[Record]:
    return [Record(CELL.key, server, number, {"decode_tok_s": rate}) for number, rate in enumerate(rates)]


def test_a_cell_is_skipped_when_every_server_has_all_rounds(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    assert not results.holds(TASK, ["a"])
    results.put(CELL, [*records("a", 1.0, 2.0), *records("b", 3.0)])
    assert results.holds(TASK, ["a"])
    assert not results.holds(TASK, ["a", "b"])


def test_what_failed_is_measured_again(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    results.put(CELL, [Record(CELL.key, "a", number, {}, "it fell over") for number in range(2)])
    assert not results.holds(TASK, ["a"])


def test_a_line_cut_short_is_ignored(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    results.put(CELL, records("a", 1.0))
    with results.path.open("a", encoding="utf-8") as file:
        file.write('{"cell": "lo')
    assert list(results) == records("a", 1.0)


def test_measuring_again_replaces_a_cell_and_keeps_the_others(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    other = Record("other", "a", 0, {})
    results.put(CELL, [*records("a", 1.0, 2.0)])
    results.put(LoadCell(4, 38, 8), [other])
    results.put(CELL, records("a", 5.0))
    assert list(results) == [other, *records("a", 5.0)]


def test_ratios_are_taken_round_by_round():
    summary = Summary([*records("diplex", 10.0, 30.0, 20.0), *records("peer", 5.0, 10.0, 20.0)])
    ratio = summary.ratio(CELL.key, "diplex", "peer", "decode_tok_s")
    assert ratio is not None
    assert (ratio.median, ratio.least, ratio.most) == (2.0, 1.0, 3.0)
    assert summary.ratio(CELL.key, "diplex", "nobody", "decode_tok_s") is None


def test_the_report_shows_servers_ratios_and_failures():
    failed = Record(CELL.key, "broken", 0, {}, "it fell over")
    summary = Summary([*records("diplex", 10.0, 30.0), *records("peer", 5.0, 10.0), failed])
    machine = Machine("a processor", 2, ["avx2"], 24.0, "Linux", "3.11", "1.32", "abc")
    text = report(summary, machine)
    assert "a processor" in text
    assert "| 2 | 2.50 (2.00 to 3.00) |" in text
    assert "it fell over" in text


@pytest.mark.parametrize("tasks", [QUICK, FULL])
def test_cells_have_names_of_their_own(tasks):
    keys = [task.cell.key for task in tasks]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("tasks", [QUICK, FULL])
def test_servers_get_room_for_whole_requests(tasks):
    for task in tasks:
        if isinstance(task.cell, LoadCell):
            assert task.cell.sizing.max_length >= task.cell.prompt_tokens + task.cell.new_tokens
