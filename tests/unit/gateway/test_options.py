"""What the command line and the environment make of a gateway's configuration."""

from __future__ import annotations

import pytest

from gateway.__main__ import addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("a:1", ("a:1",)),
        ("a:1,b:2", ("a:1", "b:2")),
        (" a:1,  unix:/x/y.sock\nb:2, ", ("a:1", "unix:/x/y.sock", "b:2")),
        ("a:1 a:1", ("a:1",)),
    ],
)
def test_addresses(text, expected):
    assert addresses(text) == expected
