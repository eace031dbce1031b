"""Quotas and appointments, in memory and in a file that processes share."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gateway.admission import process
from gateway.admission.ledger import Draw, Ledger, Refused
from gateway.security.principal import Rate

MINUTE = Rate(6, 60.0)
TOKENS = Rate(100, 60.0)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", "file"])
def ledger(request, clock, tmp_path):
    ledger = Ledger("" if request.param == "memory" else str(tmp_path / "state"), clock)
    yield ledger
    ledger.close()


def requests(amount=1.0):
    return [Draw("requests", MINUTE, amount)]


def test_a_rate_gives_all_at_once_and_then_evenly(ledger, clock):
    for _ in range(6):
        assert isinstance(ledger.begin("ann", requests(), None), int)
    [refused] = ledger.begin("ann", requests(), None)
    assert refused == Refused("requests", MINUTE, pytest.approx(10.0))
    assert isinstance(ledger.begin("bob", requests(), None), int)
    clock.now += 10
    assert isinstance(ledger.begin("ann", requests(), None), int)
    assert isinstance(ledger.begin("ann", requests(), None), list)
    clock.now += 3600
    for _ in range(6):
        assert isinstance(ledger.begin("ann", requests(), None), int)
    assert isinstance(ledger.begin("ann", requests(), None), list)


def test_all_or_nothing_is_taken(ledger):
    draws = [*requests(), Draw("tokens", TOKENS, 60)]
    assert isinstance(ledger.begin("ann", draws, None), int)
    for _ in range(3):
        [refused] = ledger.begin("ann", draws, None)
        assert refused == Refused("tokens", TOKENS, pytest.approx(12.0))
    for _ in range(5):
        assert isinstance(ledger.begin("ann", requests(), None), int)


def test_what_was_not_used_is_given_back_and_what_was_used_beyond_is_taken(ledger):
    number = ledger.begin("ann", [Draw("tokens", TOKENS, 100)], None)
    ledger.end(number, "ann", [Draw("tokens", TOKENS, 70)])
    number = ledger.begin("ann", [Draw("tokens", TOKENS, 70)], None)
    assert isinstance(number, int)
    ledger.end(number, "ann", [Draw("tokens", TOKENS, -50)])
    [refused] = ledger.begin("ann", [Draw("tokens", TOKENS, 10)], None)
    assert refused.wait == pytest.approx(36.0)


def test_more_than_the_whole_is_let_in_when_all_is_there(ledger):
    assert isinstance(ledger.begin("ann", [Draw("tokens", TOKENS, 500)], None), int)
    [refused] = ledger.begin("ann", [Draw("tokens", TOKENS, 1)], None)
    assert refused.wait == pytest.approx(401 * 0.6)


def test_a_clock_that_is_set_back_gives_nothing(ledger, clock):
    for _ in range(6):
        ledger.begin("ann", requests(), None)
    clock.now -= 500
    assert isinstance(ledger.begin("ann", requests(), None), list)


def test_concurrent(ledger):
    first = ledger.begin("ann", [], 2)
    ledger.begin("ann", [], 2)
    assert ledger.begin("ann", [], 2) == [Refused("concurrent", None, None)]
    ledger.end(first, "ann", [])
    assert isinstance(ledger.begin("ann", [], 2), int)


def test_appointments_are_spaced_and_kept(ledger, clock):
    assert ledger.appoint(b"a", "pool", 1.0, 2.0, 10.0) == pytest.approx(1.0)
    assert ledger.appoint(b"b", "pool", 1.0, 2.0, 10.0) == pytest.approx(3.0)
    assert ledger.appoint(b"a", "pool", 1.0, 2.0, 10.0) == pytest.approx(1.0)
    assert ledger.appoint(b"c", "other", 1.0, 2.0, 10.0) == pytest.approx(1.0)
    assert ledger.awaited("pool", 2.0) == 1
    assert ledger.awaited("pool", 5.0) == 2
    assert not ledger.redeem(b"a", "pool")
    clock.now += 1.0
    assert not ledger.redeem(b"b", "pool")
    assert ledger.redeem(b"a", "pool")
    assert not ledger.redeem(b"a", "pool")
    clock.now += 2.5
    assert ledger.lapse("pool", 1.0) == 0
    clock.now += 1.0
    assert ledger.lapse("pool", 1.0) == 1
    assert not ledger.redeem(b"b", "pool")
    assert ledger.awaited("pool", 9.0) == 0


def test_nothing_is_promised_for_the_far_future(ledger, clock):
    assert ledger.appoint(b"a", "pool", 11.0, 2.0, 10.0) == pytest.approx(11.0)
    clock.now += 11.0
    assert not ledger.redeem(b"a", "pool")


CHILD = """
import sys
from gateway.admission.ledger import Draw, Ledger
from gateway.security.principal import Rate
ledger = Ledger(sys.argv[1])
begun = [ledger.begin("ann", [Draw("requests", Rate(300, 86400.0), 1)], None) for _ in range(200)]
print(sum(isinstance(each, int) for each in begun), flush=True)
sys.stdin.readline()
"""


def test_processes_share_limits_truly_and_a_killed_one_leaves_nothing_behind(tmp_path):
    file = str(tmp_path / "state")
    argv = [sys.executable, "-c", CHILD, file]
    children = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    try:
        taken = [int(child.stdout.readline()) for child in children]
        assert sum(taken) == 300
        ledger = Ledger(file)
        assert ledger.begin("ann", [], 300) == [Refused("concurrent", None, None)]
        children[0].kill()
        children[0].wait()
        assert isinstance(ledger.begin("ann", [], 300 - taken[0] + 1), int)
        assert ledger.begin("ann", [], 300 - taken[0] + 1) == [Refused("concurrent", None, None)]
        ledger.close()
    finally:
        for child in children:
            child.kill()
            child.communicate()


def test_a_process_of_the_same_number_is_another():
    assert process.lives(process.own())
    assert not process.lives(process.own() + "0")
    assert not process.lives("999999999@1")


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(OSError, match="none"):
        Ledger(str(tmp_path / "none" / "state"))
