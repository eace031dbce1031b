"""Completions and models by OpenAI's own client, and what else is served."""

from __future__ import annotations

import json

import openai
import pytest

from diplex import errors
from diplex.v1 import generation_pb2 as pb
from tests.fakes import Fail


def complete(client, **options):
    return client.completions.create(**({"model": "tiny", "prompt": "Hi"} | options))


class TestCompletions:
    async def test_whole(self, client, worker):
        answer = await complete(client)
        assert answer.object == "text_completion"
        assert answer.id.startswith("cmpl-")
        assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("Hello world", "stop")
        assert answer.usage.total_tokens == 5
        assert answer.diplex["worker"] == "one"
        request = worker.calls[0].request.request
        assert request.prompt == "Hi"
        assert request.stopping.max_tokens == 16

    async def test_streamed(self, client):
        options = {"include_usage": True}
        chunks = [chunk async for chunk in await complete(client, stream=True, stream_options=options)]
        assert [chunk.choices[0].text for chunk in chunks[:-1]] == ["Hello", " world", ""]
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].usage.completion_tokens == 2

    async def test_token_ids(self, client, worker):
        await complete(client, prompt=[1, 2, 3])
        assert list(worker.calls[0].request.request.tokens.ids) == [1, 2, 3]

    async def test_several_prompts(self, client, worker):
        answer = await complete(client, prompt=["a", "b", "c"], extra_headers={"x-request-id": "r"})
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        assert answer.usage.prompt_tokens == 9
        assert sorted(call.request.request.prompt for call in worker.calls) == ["a", "b", "c"]
        assert {call.request_id for call in worker.calls} == {"r.0", "r.1", "r.2"}
        assert {call.request.request.priority for call in worker.calls} == {pb.PRIORITY_NORMAL}
        assert len(answer.diplex) == 3

    async def test_several_prompts_of_which_one_fails(self, client, worker):
        worker.script = [Fail(errors.EngineCrashed("gone"))]
        with pytest.raises(openai.InternalServerError) as raised:
            await complete(client, prompt=[[1], [2]])
        assert raised.value.code == "engine_crashed"

    async def test_echo_and_logprobs(self, client, worker):
        await complete(client, echo=True)
        await complete(client, logprobs=2)
        first, second = (call.request.request.output for call in worker.calls)
        assert first == pb.OutputOptions(echo=True)
        assert second == pb.OutputOptions(logprobs=True, top_logprobs=2)

    @pytest.mark.parametrize(
        ("options", "param"),
        [
            ({"prompt": ""}, "prompt"),
            ({"prompt": []}, "prompt"),
            ({"prompt": ["a", "b"], "stream": True}, "prompt"),
            ({"prompt": [-1]}, "prompt[0][0]"),
            ({"suffix": "x"}, "suffix"),
            ({"best_of": 2}, "best_of"),
            ({"extra_body": {"messages": []}}, "messages"),
        ],
    )
    async def test_refusals(self, client, worker, options, param):
        with pytest.raises(openai.BadRequestError) as raised:
            await complete(client, **options)
        assert raised.value.param == param
        assert not worker.calls


class TestModels:
    async def test_all(self, client):
        models = [model async for model in client.models.list()]
        assert [model.id for model in models] == ["org/other", "tiny"]
        assert models[1].diplex["deployments"][0]["precision"] == "int8"
        assert models[1].diplex["images"]

    @pytest.mark.parametrize("name", ["tiny", "org/other", "ORG/OTHER"])
    async def test_one(self, client, name):
        assert (await client.models.retrieve(name)).id == name.lower()

    async def test_none(self, client):
        with pytest.raises(openai.NotFoundError) as raised:
            await client.models.retrieve("org/nobody")
        assert raised.value.code == "model_not_found"


class TestTheRest:
    async def test_health(self, gateway, client, worker):
        for path in ("healthz", "readyz"):
            assert (await client._client.get(f"{gateway.url}/{path}")).status_code == 200
        worker.advertise()
        while (answer := await client._client.get(f"{gateway.url}/readyz")).status_code == 200:
            pass
        assert answer.status_code == 503
        assert (await client._client.get(f"{gateway.url}/healthz")).status_code == 200

    async def test_metrics(self, gateway, client):
        await complete(client)
        text = (await client._client.get(f"{gateway.url}/metrics")).text
        assert 'diplex_requests_total{code="OK",model="tiny",rpc="POST /v1/completions"}' in text

    async def test_what_it_says_of_itself(self, gateway, client):
        document = (await client._client.get(f"{gateway.url}/openapi.json")).json()
        assert "/v1/chat/completions" in document["paths"]
        assert "/v1/chat/completions" in (await client._client.get(f"{gateway.url}/docs")).text

    async def test_a_repeated_request(self, client, worker):
        headers = {"idempotency-key": "k1"}
        answers = [await complete(client, extra_headers=headers) for _ in range(2)]
        assert answers[0].choices == answers[1].choices
        assert len(worker.calls) == 1

    async def test_an_unknown_path(self, client):
        with pytest.raises(openai.NotFoundError) as raised:
            await client.embeddings.create(model="tiny", input="Hi", encoding_format="float")
        assert raised.value.code == "unknown_url"

    async def test_a_wrong_method(self, gateway, client):
        answer = await client._client.get(f"{gateway.url}/v1/chat/completions")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
        assert answer.json()["error"]["code"] == "method_not_allowed"

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"", "malformed_message"),
            (b"{", "malformed_message"),
            (b"[]", "malformed_message"),
            (b'"\xff"', "malformed_message"),
            (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "malformed_message"),
            (b"[" * 100_000, "malformed_message"),
            (b'{"messages": 1}', "invalid_request"),
            (b"{}", "invalid_request"),
        ],
    )
    async def test_bodies_that_are_none(self, gateway, client, body, code):
        answer = await client._client.post(
            f"{gateway.url}/v1/chat/completions", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == code

    async def test_what_a_browser_sends_without_asking_is_not_taken(self, gateway, client, worker):
        body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}).encode()
        answer = await client._client.post(
            f"{gateway.url}/v1/chat/completions", content=body, headers={"content-type": "text/plain"}
        )
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "content-type"
        assert not worker.calls

    async def test_a_request_id_that_no_worker_could_be_told(self, gateway, client, worker):
        answer = await client._client.get(f"{gateway.url}/v1/models", headers={"x-request-id": b"\xe9"})
        assert answer.status_code == 200
        assert answer.headers["x-request-id"].isalnum()
