import pytest

from diplex.caller import CLIENT_KEY, LONGEST_CLIENT, client_of


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:192.0.2.7:50123", "192.0.2.7"),
        ("ipv6:%5B2001:db8::1%5D:50123", "[2001:db8::1]"),
        ("ipv6:[::1]:50123", "[::1]"),
        ("unix:", "unix"),
        ("unix:/run/diplex/gateway.sock", "unix"),
    ],
)
def test_a_caller_is_the_host_that_it_calls_from(peer, host):
    assert client_of((), peer) == client_of(None, peer) == host


def test_unless_it_names_itself():
    metadata = (("x-request-id", "r1"), (CLIENT_KEY, "nightly batch"))
    assert client_of(metadata, "ipv4:192.0.2.7:50123") == "nightly batch"


@pytest.mark.parametrize("name", ["", "x" * (LONGEST_CLIENT + 1), "a\nb", "\u00e9", b"bytes"])
def test_what_is_no_name_is_left_out(name):
    assert client_of(((CLIENT_KEY, name),), "unix:") == "unix"
