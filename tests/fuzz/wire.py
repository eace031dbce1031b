"""Bytes on the port that no client of gRPC would send: broken HTTP/2, broken gRPC, other protocols."""

from __future__ import annotations

import random
import socket
import struct
import time
from typing import Final

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SECONDS: Final = 0.05
"""How long the server's answer is listened to, before the connection is broken."""

_OPEN_SECONDS: Final = 5
"""How long the server may be gone after a call that gRPC can't stand."""

_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _END_HEADERS, _PADDED, _PRIORITY = 1, 4, 8, 32


def _frame(
    kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", length: int | None = None
) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _header(name: bytes, value: bytes) -> bytes:
    """A literal field that isn't indexed (RFC 7541, 6.2.2), for lengths below 127."""
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


def _headers(path: bytes, *more: bytes) -> bytes:
    fixed = (
        _header(b":method", b"POST"),
        _header(b":scheme", b"http"),
        _header(b":path", path),
        _header(b":authority", b"x"),
        _header(b"content-type", b"application/grpc"),
        _header(b"te", b"trailers"),
    )
    return b"".join((*fixed, *more))


def _called(
    body: bytes, *, path: bytes = b"/diplex.v1.GenerationService/GenerateStream", end: bool = True
) -> bytes:
    return _frame(_HEADERS, _END_HEADERS, 1, _headers(path)) + _frame(
        _DATA, _END_STREAM if end else 0, 1, body
    )


_OPENED: Final = _PREFACE + _frame(_SETTINGS)

FIXED: Final = (
    b"",
    b"\0" * 4096,
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\x11" * 500,  # the beginning of TLS
    _PREFACE[:10],
    _PREFACE + b"garbage that is no frame at all",
    _PREFACE + _frame(_SETTINGS, length=2**24 - 1),
    _PREFACE + _frame(_SETTINGS, payload=b"\0\x04\xff\xff\xff\xff" * 50),  # windows beyond their limit
    _PREFACE + _frame(_DATA, stream=1, payload=b"x"),
    _OPENED + _frame(_HEADERS, _END_HEADERS, 2, _headers(b"/")),  # a stream of the server's numbers
    _OPENED + _frame(_HEADERS, _END_HEADERS, 1, b"\xff" * 50),  # no HPACK
    _OPENED + _frame(_HEADERS, _END_HEADERS | _PADDED, 1, b"\xff" + _headers(b"/x")),
    _OPENED
    + _frame(_HEADERS, 0, 1, _headers(b"/x"))
    + _frame(_CONTINUATION, 0, 1, _header(b"a", b"b")) * 500,
    _OPENED + _frame(_HEADERS, 0, 1, _headers(b"/x")) + _frame(_PING, payload=b"x" * 8),
    _OPENED + _frame(_PING, payload=b"x" * 8) * 1000,
    _OPENED + _frame(_PING, payload=b"x" * 7),
    _OPENED + _frame(_WINDOW, payload=b"\x7f\xff\xff\xff") * 3,
    _OPENED + _frame(_WINDOW, stream=1, payload=b"\0\0\0\0"),
    _OPENED + _frame(_GOAWAY, payload=b"\0" * 8),
    _OPENED + _frame(200, 255, 2**31 - 1, b"x" * 100),
    _OPENED
    + b"".join(
        _frame(_HEADERS, _END_HEADERS, s, _headers(b"/x")) + _frame(_RST, 0, s, b"\0" * 4)
        for s in range(1, 401, 2)
    ),
    _OPENED + _called(b""),
    _OPENED + _called(b"\0"),
    _OPENED + _called(b"\0\xff\xff\xff\xff"),  # a message of 4 GiB
    _OPENED + _called(b"\1\0\0\0\3abc"),  # compressed with nothing that was named
    _OPENED + _called(b"\7\0\0\0\3abc"),
    _OPENED + _called(b"\0\0\0\0\x10only a part"),
    _OPENED + _called(b"\0\0\0\0\0" * 3),  # three messages where one is meant
    _OPENED + _called(b"\0\0\0\0\0", end=False),
    _OPENED + _called(b"\0\0\0\0\0", path=b"/nobody/Nothing"),
    _OPENED
    + _frame(
        _HEADERS,
        _END_HEADERS,
        1,
        _headers(
            b"/diplex.v1.GenerationService/Generate",
            _header(b"grpc-timeout", b"99999999999H"),
            _header(b"x-request-id", b"\1\2\3"),
            _header(b"a-bin", b"no base64!"),
        ),
    )
    + _frame(_DATA, _END_STREAM, 1, b"\0\0\0\0\0"),
)

PATH_WITHOUT_TEXT: Final = _OPENED + _called(b"\0\0\0\0\0", path=b"\xff\xfe")
"""A call whose path is no UTF-8. It ends service for a moment, so it isn't among the others."""


def broken(chance: random.Random) -> bytes:
    """Something like the above, with something else wrong."""
    data = bytearray(chance.choice(FIXED[4:]))
    match chance.randrange(4):
        case 0:
            return bytes(data[: chance.randrange(len(data) + 1)])
        case 1:
            for _ in range(chance.randint(1, 8)):
                data[chance.randrange(len(data))] = chance.randrange(256)
        case 2:
            start = chance.randrange(len(data))
            data[start:start] = chance.randbytes(chance.randint(1, 40))
        case 3:
            frames = (
                _frame(
                    chance.randrange(12), chance.randrange(256), chance.choice((0, 1, 3)), chance.randbytes(9)
                )
                for _ in range(20)
            )
            return _OPENED + b"".join(frames)
    return bytes(data)


def send(address: str, data: bytes) -> None:
    """Sends bytes on a connection of their own, takes a little of the answer, and breaks off."""
    with _connected(address) as connection:
        connection.settimeout(_SECONDS)
        try:
            connection.sendall(data)
            while connection.recv(65_536):
                pass
        except OSError:  # it closed the connection, or has no more to say
            return


def _connected(address: str) -> socket.socket:
    """A connection; if the server is just being opened anew, once that is done."""
    host, _, port = address.rpartition(":")
    until = time.monotonic() + _OPEN_SECONDS
    while True:
        try:
            return socket.create_connection((host, int(port)), timeout=5)
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
