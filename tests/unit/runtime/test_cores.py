"""How many threads are of use, by what the control groups say."""

import os

import pytest

from workers.runtime.cores import usable_cores


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A process that may run on eight cores, in a group inside another."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/pod/worker\n", encoding="ascii")
    (tmp_path / "cgroups/pod/worker").mkdir(parents=True)

    def cores(**limits):
        for group, limit in limits.items():
            folder = {"root": ".", "pod": "pod", "worker": "pod/worker"}[group]
            (tmp_path / "cgroups" / folder / "cpu.max").write_text(limit, encoding="ascii")
        return usable_cores(tmp_path / "proc", tmp_path / "cgroups")

    return cores


def test_without_a_quota_all_that_the_process_may_run_on(place):
    assert place() == 8
    assert place(worker="max 100000\n", pod="max 100000\n") == 8


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("200000 100000", 2),
        ("50000 100000", 1),
        ("100 100000", 1),
        ("160000 100000", 2),
        ("9000000 100000", 8),
    ],
)
def test_no_more_than_the_quota(place, limit, cores):
    assert place(worker=f"{limit}\n") == cores


def test_groups_around_count_too(place):
    assert place(worker="400000 100000\n", pod="300000 100000\n") == 3


def test_a_process_in_no_group_has_all(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5})
    assert usable_cores(tmp_path, tmp_path) == 2
