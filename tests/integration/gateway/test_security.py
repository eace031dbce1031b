"""Who gets in at the edge, over real sockets: wrong key, expired token, wrong certificate, missing rights."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import grpc
import pytest

from diplex import errors
from diplex.api_key import new_key
from diplex.client import AsyncClient
from diplex.exposure import TooOpen
from diplex.tls import Tls
from diplex.worker.v1 import worker_pb2, worker_pb2_grpc
from gateway.application import Gateway
from gateway.config import GatewayConfig
from gateway.security.channel import WorkerChannels
from gateway.security.config import SecurityConfig
from gateway.security.roles import InvalidKeysFile
from tests.fakes import FakeWorker, model
from tests.fixtures.certificates import Authority
from tests.fixtures.tokens import Issuer
from workers.runtime.guard import GatewayCheck, GatewayGuard

ANN, BOB = new_key(), new_key()
KEYS = f"""
[[keys]]
name = "ann"
id = "{ANN.id}"
sha256 = "{ANN.sha256}"
models = ["tiny*"]

[[keys]]
name = "bob"
id = "{BOB.id}"
sha256 = "{BOB.sha256}"
role = "operators"

[roles.operators]
methods = ["operate"]

[certificates]
"batch.example" = "default"

[roles.default]
"""


@pytest.fixture
def keys_file(tmp_path):
    file = tmp_path / "keys.toml"
    file.write_text(KEYS)
    return str(file)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "certificates")


@pytest.fixture
async def worker():
    async with FakeWorker("one", models=[model("tiny"), model("other")]) as fake:
        yield fake


@asynccontextmanager
async def serving(worker, **security):
    """A gateway for a worker, once it is connected."""
    config = GatewayConfig(
        listen="127.0.0.1:0", workers=(worker.address,), security=SecurityConfig(**security)
    )
    async with Gateway(config) as gateway:
        await connected(gateway)
        yield gateway.address


async def connected(gateway):
    async with aclosing(gateway.fleet.snapshots()) as snapshots, asyncio.timeout(20):
        async for fleet in snapshots:
            if fleet.connected:
                return


class TestKeys:
    async def test_a_key_is_who_calls(self, worker, keys_file):
        async with (
            serving(worker, keys_file=keys_file) as address,
            AsyncClient(address, api_key=ANN.key, client_id="somebody else") as client,
        ):
            await client.generate("Hi", model="tiny")
        assert worker.calls[0].request.client == "ann"

    @pytest.mark.parametrize("key", [None, "hunter2", new_key().key, ANN.key[:-1] + "~", ANN.key + "x"])
    async def test_a_wrong_key(self, worker, keys_file, key):
        async with (
            serving(worker, keys_file=keys_file) as address,
            AsyncClient(address, api_key=key) as client,
        ):
            for call in calls(client):
                with pytest.raises(errors.Unauthenticated):
                    await call
            assert await client.health() == "serving"
        assert not worker.calls
        assert not worker.loads

    async def test_a_key_without_rights_to_the_model(self, worker, keys_file):
        async with (
            serving(worker, keys_file=keys_file) as address,
            AsyncClient(address, api_key=ANN.key) as client,
        ):
            for call in calls(client, model="OTHER/int8"):
                with pytest.raises(errors.PermissionDenied) as raised:
                    await call
            assert raised.value.metadata["principal"] == "ann"
            assert [it.name for it in (await client.list_models()).models] == ["tiny"]
            [result] = [it async for it in client.batch(["Hi"], model="other")]
            assert isinstance(result.result, errors.PermissionDenied)
        assert not worker.calls
        assert not worker.loads

    async def test_a_key_without_rights_to_the_method(self, worker, keys_file):
        async with serving(worker, keys_file=keys_file) as address:
            async with AsyncClient(address, api_key=ANN.key) as client:
                for call in (client.load_model("tiny"), client.unload_model("tiny")):
                    with pytest.raises(errors.PermissionDenied, match="operate"):
                        await call
            async with AsyncClient(address, api_key=BOB.key) as client:
                await client.load_model("tiny")
                await client.get_model("tiny")
                with pytest.raises(errors.PermissionDenied, match="generate"):
                    await client.generate("Hi", model="tiny")
        assert len(worker.loads) == 1
        assert not worker.calls

    async def test_the_key_is_asked_for_before_the_request_is_read(self, worker, keys_file):
        async with (
            serving(worker, keys_file=keys_file) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            call = channel.unary_unary("/diplex.v1.GenerationService/Generate")(b"\xff\xff")
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED

    async def test_a_broken_keys_file_ends_the_start(self, worker, tmp_path):
        with pytest.raises(InvalidKeysFile):
            async with serving(worker, keys_file=str(tmp_path / "none.toml")):
                pass


def calls(client, **options):
    """One call of every kind."""
    options = options or {"model": "tiny"}
    name = options["model"]
    yield client.generate("Hi", **options)
    yield client.stream("Hi", **options).collect()
    yield client.count_tokens("Hi", **options)
    yield client.plan("Hi", **options)
    yield client.get_model(name)
    yield client.load_model(name)
    yield client.unload_model(name)


async def test_tokens(worker, tmp_path):
    issuer = Issuer(tmp_path)
    security = {
        "jwt_jwks": str(issuer.file),
        "jwt_issuer": Issuer.ISSUER,
        "jwt_audience": Issuer.AUDIENCE,
        "jwt_leeway_seconds": 0,
    }
    async with serving(worker, **security) as address:
        async with AsyncClient(address, api_key=issuer.token("carl")) as client:
            await client.generate("Hi", model="tiny")
        async with AsyncClient(address, api_key=issuer.token("carl", expires_in=-1)) as client:
            with pytest.raises(errors.Unauthenticated, match="expired"):
                await client.generate("Hi", model="tiny")
    assert [call.request.client for call in worker.calls] == ["carl"]


class TestTls:
    async def test_a_certificate_of_the_authority(self, worker, authority):
        tls = authority.server()
        files = {"certificate_file": tls.certificate_file, "key_file": tls.key_file}
        async with serving(worker, **files) as address:
            async with AsyncClient(address, tls=authority.client()) as client:
                await client.generate("Hi", model="tiny")
            elsewhere = Tls(authority.file, server_name="other.example")
            for wrong, told in ((Tls(), "ca_file"), (elsewhere, "server_name"), (None, "no gateway answers")):
                async with AsyncClient(address, tls=wrong, patience=0) as client:
                    with pytest.raises(errors.Unavailable, match=told):
                        await client.generate("Hi", model="tiny", timeout=10)

    async def test_clients_need_a_certificate(self, worker, authority, tmp_path, keys_file):
        tls = authority.server(client_ca=authority.file)
        files = {
            "certificate_file": tls.certificate_file,
            "key_file": tls.key_file,
            "client_ca_file": tls.client_ca_file,
            "keys_file": keys_file,
        }
        stranger = Tls(authority.file, *Authority(tmp_path / "other").issue("client", "batch.example"))
        async with serving(worker, **files) as address:
            async with AsyncClient(address, tls=authority.client("batch", "batch.example")) as client:
                await client.generate("Hi", model="tiny")
            for wrong in (authority.client(), stranger):
                async with AsyncClient(address, tls=wrong, patience=0) as client:
                    with pytest.raises(errors.Unavailable):
                        await client.generate("Hi", model="tiny", timeout=10)
        assert [call.request.client for call in worker.calls] == ["batch.example"]

    async def test_new_certificates_are_used_without_a_restart(self, worker, authority, tmp_path):
        tls = authority.server("edge")
        files = {"certificate_file": tls.certificate_file, "key_file": tls.key_file}
        new = Authority(tmp_path / "new")
        async with serving(worker, **files) as address:
            async with AsyncClient(address, tls=authority.client()) as old_client:
                await old_client.generate("Hi", model="tiny")
                other = new.server("edge")
                # First the certificate alone: it doesn't fit the key, so the former pair stays.
                replace(other.certificate_file, tls.certificate_file)
                async with AsyncClient(address, tls=authority.client()) as client:
                    await client.generate("Hi", model="tiny")
                replace(other.key_file, tls.key_file)
                async with AsyncClient(address, tls=new.client()) as client:
                    await client.generate("Hi", model="tiny")
                await old_client.generate("Hi", model="tiny")  # a connection keeps what it began with
            async with AsyncClient(address, tls=authority.client(), patience=0) as client:
                with pytest.raises(errors.Unavailable):
                    await client.generate("Hi", model="tiny", timeout=10)

    async def test_a_key_that_is_not_the_certificates_ends_the_start(self, worker, authority):
        first, second = authority.server("a"), authority.server("b")
        with pytest.raises(OSError, match=r"b\.key"):
            async with serving(worker, certificate_file=first.certificate_file, key_file=second.key_file):
                pass


def replace(source, target):
    Path(target).write_bytes(Path(source).read_bytes())


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "10.0.0.1:50051", "gateway.example:50051"])
def test_a_public_address_is_opened_to_nobody_by_accident(listen):
    with pytest.raises(TooOpen, match=r"security\.keys_file"):
        Gateway(GatewayConfig(listen=listen))


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.8.8.8:0", "[::1]:0", "localhost:0", "unix:/x"])
def test_other_addresses_are(listen):
    SecurityConfig().check_listen(listen)
    GatewayCheck().check_listen(listen)


async def test_a_public_address_with_a_key_or_by_force(worker, keys_file):
    for security in ({"keys_file": keys_file}, {"allow_unauthenticated": True}):
        config = GatewayConfig(
            listen="0.0.0.0:0", workers=(worker.address,), security=SecurityConfig(**security)
        )
        async with Gateway(config):
            pass


class TestWorkers:
    """A worker that takes calls of its gateways only."""

    @asynccontextmanager
    async def guarded(self, check):
        async with FakeWorker("one", guard=GatewayGuard(check), tls=check.tls) as fake:
            yield fake

    async def code(self, worker, **security):
        """What the worker answers a gateway."""
        channel = WorkerChannels(worker.address, SecurityConfig(**security), []).open()
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        request = worker_pb2.UnloadModelRequest(model="tiny")
        try:
            await stub.UnloadModel(request, metadata=(("x-request-id", "r1"),), timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        finally:
            await channel.close()
        return "OK"

    async def generates(self, worker, **security):
        async with serving(worker, **security) as address, AsyncClient(address) as client:
            await client.generate("Hi", model="tiny")
            await client.load_model("tiny")

    async def test_a_shared_secret(self, tmp_path):
        file, other = tmp_path / "secret", tmp_path / "other"
        file.write_text("correct horse\n")
        other.write_text("battery staple\n")
        async with self.guarded(GatewayCheck(token_file=str(file))) as worker:
            await self.generates(worker, worker_token_file=str(file))
            assert await self.code(worker, worker_token_file=str(file)) == "OK"
            assert await self.code(worker, worker_token_file=str(other)) == "UNAUTHENTICATED"
            assert await self.code(worker) == "UNAUTHENTICATED"
            file.write_text("battery staple\n")
            assert await self.code(worker, worker_token_file=str(other)) == "OK"
            file.unlink()
            assert await self.code(worker, worker_token_file=str(other)) == "OK"
            assert await self.code(worker) == "UNAUTHENTICATED"

    async def test_a_pinned_name(self, authority, tmp_path):
        check = GatewayCheck(authority.server(client_ca=authority.file), names=("gateway.example",))
        gateway, other = authority.issue("g", "gateway.example"), authority.issue("o", "other.example")
        foreign = Authority(tmp_path / "foreign").issue("f", "gateway.example")
        trusted = {"worker_ca_file": authority.file}

        def shown(pair):
            return {"worker_certificate_file": pair[0], "worker_key_file": pair[1]} | trusted

        async with self.guarded(check) as worker:
            await self.generates(worker, **shown(gateway))
            assert await self.code(worker, **shown(gateway)) == "OK"
            assert await self.code(worker, **shown(other)) == "PERMISSION_DENIED"
            for nobody in (shown(foreign), trusted, {}):
                assert await self.code(worker, **nobody) == "UNAVAILABLE"

    async def test_links_take_new_files_when_they_connect_anew(self, authority, tmp_path):
        new = Authority(tmp_path / "new")
        token = tmp_path / "secret"
        token.write_text("old")
        check = GatewayCheck(authority.server("w"), token_file=str(token))
        async with self.guarded(check) as worker:
            trusted = tmp_path / "trusted.pem"
            replace(authority.file, trusted)
            async with (
                serving(worker, worker_ca_file=str(trusted), worker_token_file=str(token)) as address,
                AsyncClient(address) as client,
            ):
                await client.generate("Hi", model="tiny")
                await worker.stop()
                other = new.server("w")
                replace(other.certificate_file, check.tls.certificate_file)
                replace(other.key_file, check.tls.key_file)
                token.write_text("new")
                await worker.start()
                replace(new.file, trusted)
                await client.wait_until_ready(20)
                await client.generate("Hi", model="tiny", timeout=20)

    async def test_a_worker_must_have_the_name_that_is_expected(self, authority):
        check = GatewayCheck(authority.server("w", "worker.example"))
        async with self.guarded(check) as worker:
            trusted = {"worker_ca_file": authority.file}
            assert await self.code(worker, worker_server_name="worker.example", **trusted) == "OK"
            assert await self.code(worker, **trusted) == "UNAVAILABLE"

    def test_a_public_address_is_opened_to_nobody_by_accident(self):
        with pytest.raises(TooOpen, match="--gateway-token-file"):
            GatewayCheck().check_listen("0.0.0.0:50061")
        GatewayCheck(token_file=__file__).check_listen("0.0.0.0:50061")
        GatewayCheck(allow_unauthenticated=True).check_listen("0.0.0.0:50061")
