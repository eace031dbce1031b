"""Who is let in, over which transport, how large requests may be, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from pathlib import Path

import httpx2 as httpx
import openai
import pytest

from diplex.api_key import new_key
from diplex.exposure import TooOpen
from gateway.application import Gateway
from gateway.config import GatewayConfig
from gateway.http.config import HttpConfig
from tests.fakes import Admit, Hold, Say
from tests.fixtures.certificates import Authority
from tests.integration.gateway.http.conftest import openai_at, serving

HI = [{"role": "user", "content": "Hi"}]
ANN = new_key()
KEYS = f"""
[[keys]]
name = "ann"
id = "{ANN.id}"
sha256 = "{ANN.sha256}"
models = ["tiny"]

[certificates]
"batch.example" = "batch"

[roles.batch]
"""


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "certificates")


def served_certificate(url):
    """What a server shows to who comes now."""
    return ssl.get_server_certificate(("127.0.0.1", int(url.rpartition(":")[2])))


@pytest.fixture
def keys_file(tmp_path):
    file = tmp_path / "keys.toml"
    file.write_text(KEYS)
    return str(file)


class TestWho:
    async def test_keys(self, worker, keys_file):
        async with serving(worker, security={"keys_file": keys_file}) as gateway:
            async with openai_at(gateway.url, ANN.key) as client:
                await client.chat.completions.create(model="tiny", messages=HI, user="bob")
                assert [model.id async for model in client.models.list()] == ["tiny"]
                with pytest.raises(openai.PermissionDeniedError):
                    await client.chat.completions.create(model="org/other", messages=HI)
            async with openai_at(gateway.url, "sk-wrong") as client:
                with pytest.raises(openai.AuthenticationError) as raised:
                    await client.chat.completions.create(model="tiny", messages=HI)
                assert raised.value.code == "invalid_api_key"
                with pytest.raises(openai.AuthenticationError):
                    await client.models.list()
        assert [call.request.client for call in worker.calls] == ["ann"]

    @pytest.mark.parametrize(
        ("host", "code"),
        [
            ("localhost:8000", 200),
            ("127.0.0.1", 200),
            ("[::1]:8000", 200),
            ("ai.local", 200),
            ("rebound.example:8000", 403),
            ("localhost.rebound.example", 403),
            ("[", 403),
        ],
    )
    async def test_a_page_of_another_name_on_the_loopback(self, worker, host, code):
        async with serving(worker, hosts=("*.local",)) as gateway, httpx.AsyncClient() as client:
            answer = await client.get(f"{gateway.url}/v1/models", headers={"host": host})
            assert answer.status_code == code

    async def test_with_keys_any_name_will_do(self, worker, keys_file):
        async with (
            serving(worker, security={"keys_file": keys_file}) as gateway,
            httpx.AsyncClient(headers={"host": "ai.example", "x-api-key": ANN.key}) as client,
        ):
            assert (await client.get(f"{gateway.url}/v1/models")).status_code == 200

    async def test_a_public_address_is_opened_to_nobody(self, worker):
        config = GatewayConfig(listen="127.0.0.1:0", http=HttpConfig(listen="0.0.0.0:0"))
        with pytest.raises(TooOpen):
            Gateway(config)


class TestTransport:
    async def test_tls_with_new_certificates(self, worker, authority):
        certificate, key = authority.issue("server", "127.0.0.1")
        context = ssl.create_default_context(cafile=authority.file)
        async with serving(worker, security={"certificate_file": certificate, "key_file": key}) as gateway:
            assert gateway.url.startswith("https://127.0.0.1:")
            async with httpx.AsyncClient(verify=context) as client:
                assert (await client.get(f"{gateway.url}/v1/models")).status_code == 200
            with pytest.raises(httpx.ConnectError):
                async with httpx.AsyncClient() as client:
                    await client.get(f"{gateway.url}/v1/models")
            before = await asyncio.to_thread(served_certificate, gateway.url)
            authority.issue("server", "127.0.0.1")
            assert await asyncio.to_thread(served_certificate, gateway.url) != before
            Path(key).write_text("half of it")  # noqa: ASYNC240  # a few bytes
            assert await asyncio.to_thread(served_certificate, gateway.url) != before

    async def test_a_clients_certificate(self, worker, authority, keys_file):
        certificate, key = authority.issue("server", "127.0.0.1")
        security = {
            "certificate_file": certificate,
            "key_file": key,
            "client_ca_file": authority.file,
            "keys_file": keys_file,
        }
        context = ssl.create_default_context(cafile=authority.file)
        async with serving(worker, security=security) as gateway:
            with pytest.raises(httpx.TransportError):
                async with httpx.AsyncClient(verify=context) as client:
                    await client.get(f"{gateway.url}/v1/models")
            for name, code in (("batch.example", 200), ("other.example", 403)):
                shown = ssl.create_default_context(cafile=authority.file)
                shown.load_cert_chain(*authority.issue(name, name))
                async with httpx.AsyncClient(verify=shown) as client:
                    assert (await client.get(f"{gateway.url}/v1/models")).status_code == code

    async def test_a_unix_socket(self, worker, tmp_path):
        path = tmp_path / "http.sock"
        for _ in range(2):
            async with serving(worker, listen=f"unix:{path}") as gateway:
                assert gateway.url == f"unix:{path}"
                transport = httpx.AsyncHTTPTransport(uds=str(path))
                async with httpx.AsyncClient(transport=transport) as client:
                    assert (await client.get("http://localhost/v1/models")).status_code == 200
            assert not path.exists()

    async def test_an_address_in_use(self, worker):
        async with serving(worker) as gateway:
            port = gateway.url.rpartition(":")[2]
            with pytest.raises(OSError, match=port):
                async with serving(worker, listen=f"127.0.0.1:{port}"):
                    pass


class TestLimits:
    @pytest.mark.parametrize("declared", [True, False])
    async def test_a_large_request(self, gateway, declared):
        async def pieces():
            for _ in range(33):
                yield b" " * 2**20

        async with httpx.AsyncClient() as client:
            answer = await client.post(
                f"{gateway.url}/v1/chat/completions",
                content=b" " * (33 * 2**20) if declared else pieces(),
                headers={"content-type": "application/json"},
            )
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "message_too_large"

    async def test_long_headers(self, gateway):
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{gateway.url}/v1/models", headers={"x-long": "x" * 40_000})
            assert answer.status_code == 400
            assert (await client.get(f"{gateway.url}/v1/models")).status_code == 200


class TestEnd:
    async def test_a_drain_lets_streams_end(self, worker):
        gate = asyncio.Event()
        worker.script = [Say("a"), Hold(gate), Say("b")]
        async with serving(worker) as gateway, openai_at(gateway.url) as client:
            running = asyncio.create_task(gateway.run_until_signal())
            stream = await client.chat.completions.create(model="tiny", messages=HI, stream=True)
            await anext(stream)
            os.kill(os.getpid(), signal.SIGTERM)
            while True:
                async with httpx.AsyncClient() as another:
                    try:
                        await another.get(f"{gateway.url}/healthz")
                    except httpx.TransportError:
                        break
            assert not running.done()
            gate.set()
            said = [chunk.choices[0].delta.content async for chunk in stream]
            assert said == ["a", "b", None]
            await asyncio.wait_for(running, 10)

    async def test_a_second_signal_ends_them(self, worker):
        worker.script = [Admit(), Hold(asyncio.Event())]
        async with serving(worker) as gateway, openai_at(gateway.url) as client:
            running = asyncio.create_task(gateway.run_until_signal())
            streamed = await client.chat.completions.create(model="tiny", messages=HI, stream=True)
            whole = asyncio.create_task(client.chat.completions.create(model="tiny", messages=HI))
            calls = [await worker.next_call(), await worker.next_call()]
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(openai.InternalServerError) as raised:
                await whole
            assert raised.value.code == "draining"
            with pytest.raises(openai.APIError) as raised:
                [chunk async for chunk in streamed]
            assert raised.value.body["code"] == "draining"
            await asyncio.wait_for(running, 10)
            for call in calls:
                await asyncio.wait_for(call.ended.wait(), 10)
                assert call.cancelled
