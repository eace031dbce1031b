"""How many threads decode, by what steps took."""

from __future__ import annotations

from workers.torch_worker.threads import DecodeThreads


class Machine:
    """Four threads, and what steps take with all of them and with one."""

    def __init__(self, together, alone):
        self.seconds = {4: together, 1: alone}
        self.using = 4
        self.used = []
        self.threads = DecodeThreads(4, self.use)

    def use(self, count):
        self.using = count

    def step(self, rows=1, times=1):
        for _ in range(times):
            self.threads.begin(rows)
            self.used.append(self.using)
            self.threads.end(self.seconds[self.using])

    def share(self):
        """Of the latest hundred steps, those with all threads."""
        return self.used[-100:].count(4) / 100


def test_all_while_they_are_faster():
    machine = Machine(0.02, 0.03)
    machine.step(times=400)
    assert machine.used[:30] == [4] * 30
    assert 0.9 < machine.share() < 1


def test_one_while_others_use_the_cores():
    machine = Machine(0.07, 0.03)
    machine.step(times=400)
    assert machine.share() < 0.1
    machine.seconds[4] = 0.02
    machine.step(times=200)
    assert machine.share() > 0.9


def test_little_gain_changes_nothing():
    machine = Machine(0.02, 0.0195)
    machine.step(times=400)
    assert machine.share() > 0.9


def test_steps_of_other_rows_are_not_compared():
    machine = Machine(0.02, 0.001)
    for number in range(400):
        machine.step(rows=1 + number % 3)
    assert set(machine.used) == {4}


def test_what_is_not_decoded_has_all_threads():
    machine = Machine(0.07, 0.03)
    machine.step(times=400)
    assert machine.using == 4


def test_a_single_thread_is_left_alone():
    threads = DecodeThreads(1, lambda _: (_ for _ in ()).throw(AssertionError))
    threads.begin(1)
    threads.end(1.0)
