"""The one call from a model's name to its text, against a gateway that notes what it is asked."""

import base64
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image as Pillow

from diplex import BackendType, ModelManager, errors, get_model_manager, model_manager
from diplex.v1 import generation_pb2 as pb
from tests.fake_gateway import FakeGateway


@pytest.fixture
def gateway():
    return FakeGateway()


@pytest.fixture
def manager(gateway):
    with gateway.in_thread() as address:
        manager = ModelManager(address)
        yield manager
        manager.close()


@pytest.fixture(scope="module")
def png():
    written = BytesIO()
    Pillow.new("RGB", (2, 2), "red").save(written, format="PNG")
    return written.getvalue()


def test_a_text_comes_whole_and_in_pieces(gateway, manager):
    asked = {"model_name": "fake", "text": "Where?", "backend": BackendType.PYTORCH}
    assert manager.generate_text(**asked, system="be brief", max_tokens=9) == "Paris is the capital."
    assert list(manager.stream_text(**asked)) == ["Paris", " is", " the", " capital", "."]
    first, second = gateway.requests
    assert (first.model, first.backend, first.stopping.max_tokens) == ("fake", pb.BACKEND_TORCH, 9)
    assert [message.parts[0].text for message in first.chat.messages] == ["be brief", "Where?"]
    assert second.backend == pb.BACKEND_TORCH


def test_pictures_in_every_form(gateway, manager, png, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(png)
    encoded = base64.b64encode(png).decode()
    forms = [png, encoded, f"{encoded[:20]}\n{encoded[20:]}", f"data:image/png;base64,{encoded}"]
    manager.generate_text(text="What is it?", images=[*forms, file, str(file), Pillow.open(file)])
    *pictures, text = gateway.requests[0].chat.messages[0].parts
    assert text.text == "What is it?"
    assert [each.image.data for each in pictures[:-1]] == [png] * 6
    assert pictures[3].image.media_type == "image/png"
    assert Pillow.open(BytesIO(pictures[-1].image.data)).getpixel((1, 1)) == (255, 0, 0)


def test_a_file_whose_name_could_be_base64_is_a_file(gateway, manager, png, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("iVBORw0KGgo=").write_bytes(png)
    manager.generate_text(text="?", images=["iVBORw0KGgo="])
    assert gateway.requests[0].chat.messages[0].parts[0].image.data == png


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        ("no-such-file.png", "'no-such-file.png' is neither a file nor a picture in base64"),
        ("A" * 10_000, "is neither a file nor a picture in base64"),
        ("data:image/png,abc", "is no data URL with base64"),
        ("https://example.org/a.png", "is not fetched"),
        (7, "can't be int"),
    ],
)
def test_what_is_no_picture_is_refused_in_few_words(manager, picture, said):
    with pytest.raises(errors.InvalidRequest, match="images: ") as raised:
        manager.generate_text(text="?", images=[picture])
    assert said in raised.value.message
    assert len(raised.value.message) < 150


def test_a_backend_by_its_name_and_by_a_wrong_one(gateway, manager):
    manager.generate_text(text="?", backend="onnx")
    manager.generate_text(text="?")
    assert [request.backend for request in gateway.requests] == [pb.BACKEND_ONNX, pb.BACKEND_UNSPECIFIED]
    with pytest.raises(errors.InvalidRequest, match="must be one of auto, onnx, pytorch"):
        manager.generate_text(text="?", backend="tensorflow")


def test_an_option_that_nobody_knows_is_an_error(manager):
    with pytest.raises(TypeError, match="max_new_tokens"):
        manager.generate_text(text="?", max_new_tokens=3)


def test_the_environment_names_the_gateway(gateway, monkeypatch):
    with gateway.in_thread() as address:
        monkeypatch.setenv("DIPLEX_ADDRESS", address)
        manager = ModelManager()
        assert manager.client.address == address
        manager.close()


def test_a_gateway_at_the_default_address_is_used(gateway, monkeypatch):
    monkeypatch.delenv("DIPLEX_ADDRESS", raising=False)
    with gateway.in_thread() as address:
        monkeypatch.setattr(model_manager, "DEFAULT_ADDRESS", address)
        manager = ModelManager()
        assert manager.generate_text(text="?") == "Paris is the capital."
        assert manager.client.address == address
        manager.close()


def test_without_a_gateway_and_without_workers_it_says_what_to_install(monkeypatch):
    monkeypatch.delenv("DIPLEX_ADDRESS", raising=False)
    monkeypatch.setattr(model_manager, "DEFAULT_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr("diplex.embedded.find_spec", lambda _: None)
    with pytest.raises(errors.DiplexError, match=r"pip install 'diplex\[all\]'"):
        ModelManager().generate_text(text="?")


def test_there_is_one_manager_an_address():
    assert get_model_manager("127.0.0.1:7") is get_model_manager("127.0.0.1:7")
    assert get_model_manager("127.0.0.1:7") is not get_model_manager("127.0.0.1:8")


def test_importing_diplex_loads_next_to_nothing():
    heavy = {"grpc", "google.protobuf", "tenacity", "typer"}
    code = f"import sys, diplex; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
