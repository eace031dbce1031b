"""Who is planned for a request, and what the caller hears when nobody can serve it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diplex import errors
from gateway.fleet.facts import Backend, Deployment, Fleet, Precision, State, Unserved, Wanted, Worker
from gateway.routing import router
from gateway.routing.names import only_model
from gateway.routing.router import Obstacle

TINY = Deployment(
    model="Tiny",
    aliases=("wee",),
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


def worker(name, *deployments, connected=True, draining=False):
    return Worker(f"{name}:1", name, connected=connected, draining=draining, deployments=deployments)


def fleet(*workers):
    return Fleet(workers)


def order(wanted, *workers, default_model=""):
    plan = router.plan(wanted, fleet(*workers), default_model)
    return [candidate.worker.name for candidate in plan.servable]


def refused(wanted, *workers, default_model=""):
    """The error that the caller gets."""
    try:
        plan = router.plan(wanted, fleet(*workers), default_model)
    except errors.DiplexError as error:
        return error
    assert not plan.servable
    return router.refusal(plan)


def fields(error):
    return [violation.field for violation in error.violations]


class TestOrder:
    def test_onnx_goes_before_torch(self):
        torch = worker("t", replace(TINY, backend=Backend.TORCH))
        assert order(Wanted("tiny"), torch, worker("o", TINY)) == ["o", "t"]

    def test_unknown_backend_goes_last(self):
        assert order(Wanted("tiny"), worker("x", replace(TINY, backend=None)), worker("o", TINY)) == [
            "o",
            "x",
        ]

    def test_explicit_backend_excludes_others(self):
        torch = worker("t", replace(TINY, backend=Backend.TORCH))
        assert order(Wanted("tiny", Backend.TORCH), worker("o", TINY), torch) == ["t"]

    def test_ready_then_loading_and_restarting_then_unloaded(self):
        states = (State.UNLOADED, State.RESTARTING, State.READY, State.LOADING, State.FAILED)
        workers = [worker(state.value, replace(TINY, state=state)) for state in states]
        assert order(Wanted("tiny"), *workers) == ["ready", "restarting", "loading", "unloaded"]

    def test_backend_weighs_more_than_state(self):
        loading = worker("o", replace(TINY, state=State.LOADING))
        torch = worker("t", replace(TINY, backend=Backend.TORCH))
        assert order(Wanted("tiny"), torch, loading) == ["o", "t"]

    def test_fewest_busy_and_queued_of_two_first(self):
        some, full = worker("some", replace(TINY, others=2)), worker("full", replace(TINY, others=7))
        assert order(Wanted("tiny"), full, some) == ["some", "full"]

    def test_ties_keep_the_configured_order(self):
        assert order(Wanted("tiny"), worker("a", TINY), worker("b", TINY)) == ["a", "b"]

    def test_default_profile_goes_before_others_whatever_its_load(self):
        busy = replace(TINY, others=4)
        other = replace(TINY, precision=Precision.FP32)
        plan = router.plan(Wanted("tiny"), fleet(worker("w", busy, other)))
        assert [it.deployment.precision for it in plan.candidates] == [Precision.INT8, Precision.FP32]

    def test_those_that_cannot_serve_come_last_with_their_reason(self):
        workers = (
            worker("gone", TINY, connected=False),
            worker("ends", TINY, draining=True),
            worker("sick", replace(TINY, state=State.FAILED, detail="no memory")),
            worker("torch", replace(TINY, backend=Backend.TORCH)),
            worker("fine", TINY),
        )
        plan = router.plan(Wanted("tiny", Backend.ONNX), fleet(*workers))
        assert [(it.worker.name, it.obstacle) for it in plan.candidates] == [
            ("fine", None),
            ("gone", Obstacle.NOT_CONNECTED),
            ("ends", Obstacle.DRAINING),
            ("sick", Obstacle.FAILED),
            ("torch", Obstacle.BACKEND),
        ]
        assert plan.candidates[0].reason == "onnx, int8, ready, 0 of 4 slots busy, 0 waiting"
        assert plan.candidates[3].reason == "failed: no memory"

    def test_other_models_are_no_candidates(self):
        assert order(Wanted("tiny"), worker("w", replace(TINY, model="Other", aliases=()), TINY)) == ["w"]


class TestNames:
    @pytest.mark.parametrize("name", ["Tiny", "TINY", "wee", "WEE", "tiny/int8", "Wee/INT8"])
    def test_case_aliases_and_suffix(self, name):
        plan = router.plan(Wanted(name), fleet(worker("w", TINY)))
        assert plan.wanted.model == "Tiny"
        assert len(plan.servable) == 1

    def test_suffix_selects_the_precision(self):
        full = replace(TINY, precision=Precision.FP32)
        plan = router.plan(Wanted("tiny/fp32"), fleet(worker("w", TINY, full)))
        assert [it.deployment for it in plan.servable] == [full]

    def test_slash_in_a_name_is_no_suffix(self):
        slashed = replace(TINY, model="org/tiny", aliases=())
        assert order(Wanted("ORG/tiny"), worker("w", slashed)) == ["w"]
        assert order(Wanted("org/tiny/int8"), worker("w", slashed)) == ["w"]

    def test_a_name_goes_before_another_models_alias(self):
        other = replace(TINY, model="Other", aliases=("tiny",))
        plan = router.plan(Wanted("tiny"), fleet(worker("a", other), worker("b", TINY)))
        assert plan.wanted.model == "Tiny"

    def test_suffix_may_repeat_the_precision_field(self):
        assert order(Wanted("tiny/int8", precision=Precision.INT8), worker("w", TINY)) == ["w"]

    def test_suffix_against_the_precision_field(self):
        error = refused(Wanted("tiny/int8", precision=Precision.FP32), worker("w", TINY))
        assert type(error) is errors.InvalidRequest
        assert fields(error) == ["precision"]

    def test_unknown_suffix_of_a_known_name(self):
        error = refused(Wanted("tiny/int9"), worker("w", TINY))
        assert type(error) is errors.InvalidRequest
        assert fields(error) == ["model"]
        assert "fp32, bf16, fp16, int8, int4, q4, q4_mixed, q4f16" in error.message

    def test_unknown_name_tells_close_ones(self):
        error = refused(Wanted("Tinny"), worker("w", TINY))
        assert type(error) is errors.ModelNotFound
        assert "did you mean Tiny?" in error.message

    def test_unknown_name_tells_all_when_none_is_close(self):
        error = refused(Wanted("zzz"), worker("w", TINY, replace(TINY, model="Big")))
        assert "known: Big, Tiny" in error.message

    def test_many_known_names_are_cut(self):
        many = [replace(TINY, model=f"model-{i:02}", aliases=()) for i in range(30)]
        assert refused(Wanted("zzz"), worker("w", *many)).message.endswith("model-19 and 10 more")


class TestModelsOfOtherBackends:
    EYES = Unserved("Eyes", ("org/eyes",), (Backend.TORCH,), "the onnx worker has no form of it")

    def lacking(self, *unserved, connected=True):
        return replace(worker("o", TINY, connected=connected), unserved=unserved)

    @pytest.mark.parametrize("name", ["eyes", "ORG/Eyes", "eyes/int8", "org/eyes/fp32"])
    def test_refusal_says_what_would_serve_it_and_how(self, name):
        error = refused(Wanted(name), self.lacking(self.EYES))
        assert type(error) is errors.BackendNotRunning
        assert "the onnx worker has no form of it" in error.message
        assert "`docker compose --profile torch up -d`" in error.message
        assert error.metadata == {"model": "Eyes", "backends": "torch"}

    def test_served_once_a_worker_has_it(self):
        torch = worker("t", replace(TINY, model="Eyes", backend=Backend.TORCH))
        assert order(Wanted("eyes"), self.lacking(self.EYES), torch) == ["t"]

    def test_no_advice_where_no_backend_would_help(self):
        error = refused(Wanted("eyes"), self.lacking(replace(self.EYES, backends=(), reason="nobody can")))
        assert error.message == "Eyes can't be served now: nobody can"

    def test_workers_that_are_gone_tell_nothing(self):
        gone = self.lacking(self.EYES, connected=False)
        assert type(refused(Wanted("eyes"), gone, worker("w", TINY))) is errors.ModelNotFound

    def test_backend_that_nobody_is_of(self):
        error = refused(Wanted("tiny", Backend.TORCH), worker("w", TINY))
        assert "`diplex up --torch`" in error.message


class TestDefaultModel:
    BIG = replace(TINY, model="Big", aliases=())

    def test_configured(self):
        workers = [worker("w", TINY), worker("b", self.BIG)]
        assert order(Wanted(""), *workers, default_model="big") == ["b"]

    def test_configured_and_unknown(self):
        error = refused(Wanted(""), worker("w", TINY), default_model="gone")
        assert isinstance(error, errors.ModelNotFound)

    def test_the_only_one(self):
        assert order(Wanted(""), worker("a", TINY), worker("b", TINY)) == ["a", "b"]

    def test_the_only_one_in_use(self):
        unloaded = replace(self.BIG, state=State.UNLOADED)
        assert order(Wanted(""), worker("w", unloaded, TINY)) == ["w"]

    def test_several_are_named(self):
        error = refused(Wanted(""), worker("w", TINY, self.BIG))
        assert type(error) is errors.InvalidRequest
        assert fields(error) == ["model"]
        assert "known: Big, Tiny" in error.message

    def test_none_advertised_yet(self):
        error = refused(Wanted(""), worker("w"))
        assert type(error) is errors.Unavailable
        assert error.retry_after

    def test_only_model_ignores_lost_workers(self):
        assert only_model(fleet(worker("a", TINY), worker("b", self.BIG, connected=False))) == "Tiny"


class TestRefusals:
    @pytest.mark.parametrize("workers", [(), (worker("w", TINY, connected=False),)])
    def test_no_worker(self, workers):
        error = refused(Wanted("tiny"), *workers)
        assert type(error) is errors.NoWorker
        assert error.retry_after

    def test_backend_tells_what_can_be_had(self):
        error = refused(Wanted("tiny", Backend.TORCH), worker("w", TINY))
        assert type(error) is errors.UnsupportedFeature
        assert fields(error) == ["backend"]
        [violation] = error.violations
        assert violation.description.startswith("Tiny is served by onnx, not by torch")
        assert "diplex up --torch" in violation.description

    def test_precision_tells_what_can_be_had(self):
        full = replace(TINY, precision=Precision.FP32)
        error = refused(Wanted("tiny/int4"), worker("w", TINY, full))
        assert type(error) is errors.UnsupportedFeature
        assert fields(error) == ["precision"]
        assert "served at fp32, int8, not at int4" in error.message

    def test_images_name_each_part(self):
        paths = ("chat.messages[0].parts[1].image", "chat.messages[2].parts[0].image")
        error = refused(Wanted("tiny", images=paths), worker("w", TINY))
        assert type(error) is errors.UnsupportedFeature
        assert fields(error) == list(paths)

    def test_images_go_to_those_that_take_them(self):
        seeing = worker("s", replace(TINY, images=True, busy=3))
        assert order(Wanted("tiny", images=("chat",)), worker("w", TINY), seeing) == ["s"]

    @pytest.mark.parametrize(
        ("candidate", "told"),
        [
            (worker("w", replace(TINY, state=State.FAILED, detail="no memory")), "no memory"),
            (worker("w", TINY, draining=True), "shutting down"),
            (worker("w", TINY, connected=False), "not connected"),
        ],
    )
    def test_what_may_pass_is_unavailable(self, candidate, told):
        error = refused(Wanted("tiny"), candidate, worker("other"))
        assert isinstance(error, errors.Unavailable)
        assert told in error.message
        assert error.retry_after

    def test_what_may_pass_goes_before_what_will_not(self):
        failed = worker("f", replace(TINY, state=State.FAILED, detail="no memory"))
        torch = worker("t", replace(TINY, backend=Backend.TORCH))
        assert isinstance(refused(Wanted("tiny", Backend.ONNX), failed, torch), errors.Unavailable)


class TestCanAnswer:
    @pytest.mark.parametrize(
        ("workers", "expected"),
        [
            ((), False),
            ((worker("w", TINY),), True),
            ((worker("w", replace(TINY, state=State.LOADING)),), False),
            ((worker("w", TINY, draining=True),), False),
            ((worker("w", TINY, connected=False),), False),
            ((worker("w", TINY, draining=True), worker("v", TINY)), True),
        ],
    )
    def test_needs_a_ready_model_on_a_worker_that_takes_requests(self, workers, expected):
        assert fleet(*workers).can_answer is expected


class TestUnloaded:
    FP32 = replace(TINY, precision=Precision.FP32)

    def test_what_is_loaded_goes_before_what_would_have_to_be(self):
        waiting = replace(TINY, state=State.UNLOADED)
        other = worker("other", waiting, self.FP32)
        assert order(Wanted("tiny"), worker("unloaded", waiting), other) == ["other", "unloaded"]

    def test_no_profile_is_loaded_beside_one_that_is_there(self):
        found = router.plan(
            Wanted("tiny"), fleet(worker("w", TINY, replace(self.FP32, state=State.UNLOADED)))
        )
        assert [candidate.obstacle for candidate in found.candidates] == [None, Obstacle.PROFILE]

    def test_of_unloaded_profiles_only_the_default_is_loaded(self):
        both = [replace(TINY, state=State.UNLOADED), replace(self.FP32, state=State.UNLOADED)]
        found = router.plan(Wanted("tiny"), fleet(worker("w", *both)))
        assert [candidate.deployment.precision for candidate in found.servable] == [Precision.INT8]

    def test_a_profile_that_is_named_is_loaded(self):
        there = worker("w", TINY, replace(self.FP32, state=State.UNLOADED))
        found = router.plan(Wanted("tiny", precision=Precision.FP32), fleet(there))
        assert [candidate.deployment.precision for candidate in found.servable] == [Precision.FP32]
        assert order(Wanted("tiny/fp32"), there) == ["w"]
