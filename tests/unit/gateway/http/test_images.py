"""Images behind URLs, from a server that a test runs."""

import ssl
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from diplex.errors import InvalidRequest
from diplex.v1 import generation_pb2 as pb
from diplex.validation import LARGEST_IMAGE
from gateway.http.images import Images
from tests.fixtures.certificates import Authority

PNG = b"\x89PNG not looked at"


PAGES = {
    "/cat.png": (200, "content-type", "image/png", PNG),
    "/elsewhere": (302, "location", "/cat.png", b""),
    "/none": (404, "content-type", "image/png", b""),
    "/page": (200, "content-type", "text/html", b"<p>"),
    "/large": (200, "content-type", "image/png", bytes(LARGEST_IMAGE + 10)),
}


class Pictures(BaseHTTPRequestHandler):
    """Answers for the pages; for others not before it is told to."""

    def do_GET(self):
        if self.path not in PAGES:
            self.server.hold.wait(30)
        code, header, value, body = PAGES.get(self.path, PAGES["/none"])
        self.send_response(code)
        self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body)

    def finish(self):
        with suppress(OSError):  # the client may have gone
            super().finish()
        self.rfile.close()
        self.wfile.close()

    def handle(self):
        with suppress(OSError):
            super().handle()

    def log_message(self, *_):
        pass


@pytest.fixture
def url(tmp_path, monkeypatch):
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", authority.file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("pictures", "localhost"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        server.hold = threading.Event()
        server.daemon_threads = False  # are waited for
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"https://localhost:{server.server_address[1]}"
        server.hold.set()
        server.shutdown()
        thread.join()


async def refusal(images, url):
    with pytest.raises(InvalidRequest) as raised:
        await images.find(url, "here")
    [violation] = raised.value.violations
    assert violation.field == "here"
    return violation.description


async def test_from_a_host_that_is_allowed(url):
    image = await Images(["*.example", "localhost"]).find(f"{url}/cat.png", "here")
    assert image == pb.Image(data=PNG, media_type="image/png")


@pytest.mark.parametrize("hosts", [[], ["other.example"], ["*.localhost"], ["local"]])
async def test_from_a_host_that_is_not(url, hosts):
    assert "http.image_hosts" in await refusal(Images(hosts), f"{url}/cat.png")


async def test_plain_http_is_never_fetched():
    assert "http.image_hosts" in await refusal(Images(["*"]), "http://localhost/cat.png")


async def test_a_host_can_not_hide_in_a_url(url):
    port = url.rpartition(":")[2]
    told = await refusal(Images(["img.example"]), f"https://img.example@localhost:{port}/cat.png")
    assert "http.image_hosts" in told


@pytest.mark.parametrize(
    ("path", "why"), [("elsewhere", "302"), ("none", "404"), ("page", "text/html"), ("large", "bytes")]
)
async def test_what_is_no_image(url, path, why):
    assert why in await refusal(Images(["localhost"]), f"{url}/{path}")


async def test_a_host_that_does_not_answer(url):
    assert "too long" in await refusal(Images(["localhost"], seconds=0.2), f"{url}/hang")
