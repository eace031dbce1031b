"""What the gateway itself knows decides among workers: circuits, homes, room."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.fleet.facts import Backend, Deployment, Fleet, Precision, Prefix, State, Wanted, Worker
from gateway.routing import router
from gateway.routing.balancer import Balancer
from gateway.routing.circuit import Key
from gateway.routing.config import RoutingConfig
from gateway.routing.room import Room, of
from gateway.routing.router import Conditions, Obstacle

MIB = 1024 * 1024
READY = Deployment(
    model="tiny",
    aliases=(),
    backend=Backend.ONNX,
    precision=Precision.INT8,
    state=State.READY,
    images=False,
    slots=4,
    busy=0,
    queued=0,
    others=0,
    detail="",
)
UNLOADED = replace(READY, state=State.UNLOADED, slots=0, most_bytes=100 * MIB)
OTHER = replace(READY, model="other", most_bytes=100 * MIB)


def worker(name, *deployments, budget=0, connected=True):
    return Worker(
        f"{name}:1",
        name,
        connected=connected,
        draining=False,
        deployments=deployments or (READY,),
        memory_budget=budget,
    )


def planned(conditions, *workers):
    return router.plan(Wanted("tiny"), Fleet(workers), "", conditions).candidates


class TestEjection:
    def test_ejected_ones_serve_nothing_and_say_why(self):
        conditions = Conditions(ejected={Key("a:1", "tiny"): "for 5 s more: 5 failures in a row"})
        first, last = planned(conditions, worker("a"), worker("b"))
        assert (first.worker.name, first.obstacle) == ("b", None)
        assert (last.worker.name, last.obstacle) == ("a", Obstacle.EJECTED)
        assert last.reason == "ejected for 5 s more: 5 failures in a row"

    def test_other_models_of_the_worker_are_served(self):
        conditions = Conditions(ejected={Key("a:1", "other"): "for 5 s more"})
        assert [it.obstacle for it in planned(conditions, worker("a"), worker("b"))] == [None, None]

    @pytest.mark.parametrize("further", [[], [worker("c", connected=False)]])
    def test_never_all_that_could_serve(self, further):
        ejected = {Key(f"{name}:1", "tiny"): "for 5 s more" for name in "ab"}
        found = planned(Conditions(ejected=ejected), worker("a"), worker("b"), *further)
        assert [it.obstacle for it in found[:2]] == [None, None]


class TestRoom:
    def test_a_worker_that_has_it_goes_before_one_with_room(self):
        found = planned(Conditions(), worker("room", UNLOADED, budget=1000 * MIB), worker("has"))
        assert [it.worker.name for it in found] == ["has", "room"]

    def test_the_more_has_to_go_for_it_the_later(self):
        pinned = replace(OTHER, pinned=True)
        workers = [
            worker("never", UNLOADED, pinned, budget=150 * MIB),
            worker("busy", UNLOADED, replace(OTHER, busy=1), budget=150 * MIB),
            worker("idle", UNLOADED, OTHER, budget=150 * MIB),
            worker("enough", UNLOADED, OTHER, budget=200 * MIB),
        ]
        found = planned(Conditions(), *workers)
        assert [it.worker.name for it in found] == ["enough", "idle", "busy", "never"]
        assert found[0].reason == "onnx, int8, unloaded, fits beside what is loaded"
        assert found[1].reason.endswith("fits once idle models go")

    @pytest.mark.parametrize(
        "told", [worker("a", UNLOADED), worker("a", replace(UNLOADED, most_bytes=0), budget=1)]
    )
    def test_what_is_not_known_is_no_obstacle(self, told):
        assert of(told, told.deployments[0]) is Room.ENOUGH


class TestBalancer:
    TALK = Prefix((b"1", b"2"), b"3")

    def balancer(self, **options):
        return Balancer(RoutingConfig(**options), clock=lambda: 0.0, draw=lambda: 0.0)

    def first(self, balancer, prefix, *, choose=True):
        wanted, fleet = Wanted("tiny", prefix=prefix), Fleet((worker("a"), worker("b")))
        if not choose:
            return balancer.plan(wanted, fleet, "").candidates[0].worker.name
        chosen = balancer.choose(balancer.plan(wanted, fleet, ""))[0]
        balancer.begin(chosen.worker.address, "tiny", 10, lambda: None)
        return chosen.worker.name

    def test_a_conversation_goes_back(self):
        balancer = self.balancer()
        assert self.first(balancer, self.TALK) == "a"
        assert self.first(balancer, Prefix((b"1", b"2", b"3", b"4"), b"5")) == "a"
        assert self.first(balancer, Prefix((b"9",), b"8")) == "b"

    def test_without_affinity_it_does_not(self):
        balancer = self.balancer(affinity=False)
        assert [self.first(balancer, self.TALK) for _ in range(2)] == ["a", "b"]

    def test_to_plan_remembers_nothing(self):
        balancer = self.balancer()
        self.first(balancer, self.TALK, choose=False)
        fleet = Fleet((worker("b"), worker("a")))
        assert balancer.plan(Wanted("tiny", prefix=self.TALK), fleet, "").candidates[0].worker.name == "b"

    def test_the_oldest_beginnings_are_forgotten(self):
        balancer = self.balancer(affinity_entries=3)
        self.first(balancer, self.TALK)
        self.first(balancer, Prefix((b"7", b"8"), b"9"))
        plan = balancer.plan(Wanted("tiny", prefix=self.TALK), Fleet((worker("a"), worker("b"))), "")
        assert not any("beginning" in it.reason for it in plan.candidates)

    def test_passages_keep_the_books(self):
        balancer, ended = self.balancer(), []
        passage = balancer.begin("a:1", "tiny", 10, lambda: ended.append(1))
        passage.passed(4)
        told = balancer.plan(Wanted("tiny"), Fleet((worker("a"),)), "").candidates[0].reason
        assert told.endswith("1 requests with about 6 tokens from here")
        passage.passed(40)
        passage.ended()
        passage.ended()
        assert ended == [1]
        assert (
            "from here" not in balancer.plan(Wanted("tiny"), Fleet((worker("a"),)), "").candidates[0].reason
        )

    def test_failures_eject(self):
        balancer = self.balancer(eject_failures=2)
        for _ in range(2):
            passage = balancer.begin("a:1", "tiny", 10, lambda: None)
            passage.failed("ENGINE_CRASHED")
            passage.ended()
        plan = balancer.plan(Wanted("tiny"), Fleet((worker("a"), worker("b"))), "")
        assert [(it.worker.name, it.obstacle) for it in plan.candidates] == [
            ("b", None),
            ("a", Obstacle.EJECTED),
        ]
