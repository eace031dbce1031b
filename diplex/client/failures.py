"""What gRPC raises, as errors of our tree that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import grpc

from diplex import errors, status


@dataclass(frozen=True, slots=True)
class Failures:
    """Translates what goes wrong in one call.

    Args:
        address: The gateway's.
        timeout: Seconds that the caller gave the call.
    """

    address: str
    timeout: float | None = None

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Around a call: a gRPC error leaves as one of ours."""
        try:
            yield
        except grpc.RpcError as error:
            raise self.of(error) from error

    def of(self, error: grpc.RpcError, *, begun: bool = False) -> errors.DiplexError:
        """Our error for gRPC's.

        Args:
            error: As a call raised it.
            begun: Whether the gateway had already answered in part.
        """
        try:
            known = status.from_rpc_error(error)
        except ValueError as mismatch:
            return errors.InternalError(f"{self.address} sent an error that contradicts itself: {mismatch}")
        if known.metadata:  # our servers always say more than the code
            return known
        if type(known) is errors.Unavailable:
            known.message = self._unreachable(known.message, begun=begun)
        elif type(known) is errors.DeadlineExceeded and self.timeout is not None:
            known.message = f"the request took longer than its timeout of {self.timeout:g} s"
        elif type(known) is errors.Cancelled:
            return self.cancelled()
        known.args = (known.message,)
        return known

    def cancelled(self) -> errors.Cancelled:
        """The error of a call that was cancelled on this side."""
        return errors.Cancelled("the request was cancelled")

    def not_ready(self, seconds: float, last: str) -> errors.DeadlineExceeded:
        """The error of a gateway that was waited for in vain."""
        return errors.DeadlineExceeded(f"{self.address} was not ready within {seconds:g} s: {last}")

    def _unreachable(self, details: str, *, begun: bool) -> str:
        if begun:
            return f"the connection to {self.address} broke during the answer: {details}"
        if why := next((why for sign, why in _TLS.items() if sign in details), None):
            return f"no TLS connection to {self.address}: {why}"
        return (
            f"no gateway answers at {self.address}: start one with `diplex up`, or name another by the "
            f"address argument, --address or $DIPLEX_ADDRESS ({_brief(details)})"
        )


_TLS: Final = {  # what gRPC's details have -> what that means
    "WRONG_VERSION_NUMBER": "it doesn't speak TLS; leave TLS out, or name a port that does",
    "CERTIFICATE_VERIFY_FAILED": "its certificate isn't signed by an authority that is trusted here: give "
    "the right one by tls=Tls(ca_file=…), --tls-ca-file or $DIPLEX_CA_FILE",
    "Hostname Verification": "its certificate is for another name: give it by tls=Tls(server_name=…), "
    "--tls-server-name or $DIPLEX_SERVER_NAME",
    "Tls handshake failed": "the handshake failed; does it ask for a certificate (--tls-certificate-file)?",
}


def _brief(details: str) -> str:
    """The explanation of gRPC without the addresses that it repeats."""
    return details.rpartition(": ")[2].rstrip("]")[:200]
