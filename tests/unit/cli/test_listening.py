"""Addresses for ``diplex up``, checked before anything starts."""

import os
import socket
import stat
import tempfile

import pytest

from diplex import errors
from diplex.cli.listening import free_address, free_http_address, page, private_folder, reachable, url


def test_port_zero_becomes_a_real_port():
    host, _, port = free_address("127.0.0.1:0").rpartition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0


def test_a_port_in_use_is_told_with_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(errors.Unavailable, match=f"{listen}.*in use.*--listen"):
            free_address(listen)


@pytest.mark.parametrize("listen", ["", "50051", "localhost:", "localhost:http"])
def test_what_is_no_address(listen):
    with pytest.raises(errors.InvalidRequest, match="host:port"):
        free_address(listen)


def test_a_socket_in_use(tmp_path):
    listen = f"unix:{tmp_path}/x.sock"
    assert free_address(listen) == listen
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(listen.removeprefix("unix:"))
        other.listen()
        with pytest.raises(errors.Unavailable):
            free_address(listen)


def test_a_server_on_every_interface_is_reached_on_the_loopback():
    assert reachable("0.0.0.0:1") == "127.0.0.1:1"
    assert reachable("[::]:1") == "[::1]:1"
    assert reachable("host:1") == "host:1"


def test_the_private_folder_is_private_and_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    abandoned = tmp_path / "diplex-up-abandoned"
    abandoned.mkdir()
    (abandoned / "lock").touch()
    os.utime(abandoned, (0, 0))
    with private_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert not abandoned.exists()
        with private_folder():
            assert folder.exists()
    assert list(tmp_path.iterdir()) == []


class TestHttp:
    def test_the_usual_port_or_any(self):
        first = free_http_address(None)
        with socket.create_server(("127.0.0.1", int(first.rpartition(":")[2]))):
            second = free_http_address(None)
        assert first != second
        assert all(each.startswith("127.0.0.1:") for each in (first, second))

    def test_a_taken_port_that_was_asked_for(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            listen = f"127.0.0.1:{other.getsockname()[1]}"
            with pytest.raises(errors.Unavailable, match=f"{listen}.*--http-listen"):
                free_http_address(listen)

    def test_nowhere(self):
        assert free_http_address("") == url("") == ""

    def test_the_url(self):
        assert url("0.0.0.0:8000") == "http://127.0.0.1:8000/v1"
        assert url("unix:/run/x.sock") == "unix:/run/x.sock"

    def test_the_page(self):
        assert page("0.0.0.0:8000") == "http://127.0.0.1:8000/"
        assert page("unix:/run/x.sock") == page("") == ""
