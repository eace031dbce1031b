"""What the playground asks for beside chats: a plan, models as they change, loading; and who may."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import httpx2 as httpx
import pytest

from diplex import errors
from diplex.api_key import new_key
from diplex.v1 import models_pb2
from tests.fakes import Fail, model
from tests.integration.gateway.http.conftest import serving

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
LIVE = {"accept": "text/event-stream"}
USER, OPERATOR = new_key(), new_key()
KEYS = f"""
[[keys]]
name = "user"
id = "{USER.id}"
sha256 = "{USER.sha256}"
models = ["tiny"]

[[keys]]
name = "operator"
id = "{OPERATOR.id}"
sha256 = "{OPERATOR.sha256}"
role = "operators"

[roles.default]
[roles.operators]
methods = ["generate", "operate"]
"""


@pytest.fixture
async def http(gateway):
    async with httpx.AsyncClient(base_url=gateway.url) as connected:
        yield connected


@pytest.fixture
async def keyed(worker, tmp_path):
    """A gateway with keys, and a client of it for each key."""
    file = tmp_path / "keys.toml"
    file.write_text(KEYS)
    async with serving(worker, security={"keys_file": str(file)}) as gateway:

        def client(key=None):
            headers = {"authorization": f"Bearer {key.key}"} if key else {}
            return httpx.AsyncClient(base_url=gateway.url, headers=headers)

        yield client


@asynccontextmanager
async def lists(client):
    """The lists of a live one, as they come."""
    async with client.stream("GET", "/v1/models", headers=LIVE) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")

        async def all_of_them():
            async for line in answer.aiter_lines():
                if line:
                    yield json.loads(line.removeprefix("data: "))["data"]

        yield all_of_them()


def events(answer):
    return [json.loads(part.removeprefix("data: ")) for part in answer.text.split("\n\n") if part]


async def test_a_plan_is_told_and_nothing_is_run(http, worker):
    answer = await http.post("/diplex/v1/plan", json=CHAT)
    [candidate] = answer.json()["candidates"]
    assert {name: candidate[name] for name in ("model", "backend", "precision", "worker", "can_serve")} == {
        "model": "tiny",
        "backend": "onnx",
        "precision": "int8",
        "worker": "one",
        "can_serve": True,
    }
    assert "ready" in candidate["reason"]
    assert worker.calls == []


async def test_a_wrong_request_has_no_plan(http):
    answer = await http.post("/diplex/v1/plan", json=CHAT | {"temperature": -1})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "temperature")


async def test_the_list_comes_again_when_it_changes(http, worker):
    async with lists(http) as live:
        first = await anext(live)
        assert [(it["id"], it["diplex"]["deployments"][0]["slots"]["busy"]) for it in first] == [
            ("org/other", 0),
            ("tiny", 0),
        ]
        worker.advertise(model("tiny", busy=3, detail="warm"))
        [tiny] = await anext(live)
        [deployment] = tiny["diplex"]["deployments"]
        assert (deployment["slots"]["busy"], deployment["detail"]) == (3, "warm")


async def test_a_live_list_does_not_keep_a_server_from_its_end(worker):
    async with (
        serving(worker) as gateway,
        httpx.AsyncClient(base_url=gateway.url) as client,
        lists(client) as live,
    ):
        await anext(live)
        # Waits for what is under way, for longer than a test may take.
        await gateway._http.stop(300)
        assert [one async for one in live] == []


async def test_a_model_is_loaded_with_progress_and_unloaded(http, worker):
    worker.advertise(model("tiny", state=models_pb2.MODEL_STATE_UNLOADED))
    async with lists(http) as live:
        async for [one, *_] in live:
            if one["diplex"]["deployments"][0]["state"] == "unloaded":
                break
    answer = await http.post("/diplex/v1/models/load", json={"model": "tiny", "precision": "int8"})
    first, last = events(answer)
    assert first["progress"] == {"phase": "warm", "done": 0, "total": None, "detail": "", "eta_seconds": None}
    assert last["model"]["id"] == "tiny"
    assert [name for name, _ in worker.loads] == ["tiny"]
    worker.advertise(model("tiny"))
    async with lists(http) as live:
        async for [one, *_] in live:
            if one["diplex"]["deployments"][0]["state"] == "ready":
                break
    answer = await http.post("/diplex/v1/models/unload", json={"model": "tiny"})
    assert (answer.status_code, answer.json()) == (200, {})
    assert [name for name, _ in worker.unloads] == ["tiny"]


async def test_a_load_that_fails_says_so_behind_its_progress(http, worker):
    worker.script = [Fail(errors.InsufficientMemory("there is no room"))]
    answer = await http.post("/diplex/v1/models/load", json={"model": "tiny"})
    assert answer.status_code == 200
    _, last = events(answer)
    assert (last["type"], last["error"]["message"]) == ("error", "there is no room")


@pytest.mark.parametrize(
    ("body", "param"), [({"modell": "tiny"}, "modell"), ({"model": "tiny", "backend": "cuda"}, "backend")]
)
async def test_a_load_that_says_what_nobody_knows_is_refused(http, body, param):
    answer = await http.post("/diplex/v1/models/load", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_the_page_needs_no_key_and_all_else_does(keyed):
    async with keyed() as stranger:
        assert (await stranger.get("/")).status_code == 200
        assert (await stranger.get("/v1/models", headers=LIVE)).status_code == 401
        for path, body in (("plan", CHAT), ("models/load", {}), ("models/unload", {})):
            assert (await stranger.post(f"/diplex/v1/{path}", json=body)).status_code == 401


async def test_rights_are_those_of_grpc(keyed, worker):
    async with keyed(USER) as user:
        async with lists(user) as live:
            assert [it["id"] for it in await anext(live)] == ["tiny"]
        assert (await user.post("/diplex/v1/plan", json=CHAT)).status_code == 200
        assert (await user.post("/diplex/v1/plan", json=CHAT | {"model": "org/other"})).status_code == 403
        for what in ("load", "unload"):
            assert (await user.post(f"/diplex/v1/models/{what}", json={"model": "tiny"})).status_code == 403
    async with keyed(OPERATOR) as operator:
        assert (await operator.post("/diplex/v1/models/load", json={"model": "tiny"})).status_code == 200
    assert [name for name, _ in worker.loads] == ["tiny"]


async def test_it_can_be_turned_off(worker):
    async with serving(worker, playground=False) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
        answer = await http.get("/")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
        assert (await http.get("/v1/models")).status_code == 200
