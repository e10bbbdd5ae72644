"""What the transports ask of the internet layer below them: an interface between `endpoint` and the socket modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final, Protocol

from netemu.errors import HostError

__all__ = ["EPHEMERAL_PORTS", "IpLayer", "choose_port"]

EPHEMERAL_PORTS: Final = range(49152, 65536)  # RFC 6335 6


class IpLayer(Protocol):
    """Sends datagrams, when the time comes: nothing leaves before the engine's `transmit`."""

    counters: Counter[str]
    getrandbits: Callable[[int], int]
    mtu: int

    @property
    def address(self) -> IPv4Address | None:
        """The interface's first address."""
        ...

    def source_for(self, destination: IPv4Address) -> IPv4Address:
        """The address of ours that speaks to `destination`; `HostError` ENETUNREACH without a route."""
        ...

    def send(
        self,
        source: IPv4Address,
        destination: IPv4Address,
        protocol: int,
        payload: bytes,
        *,
        ttl: int = 64,
        dont_fragment: bool = False,
    ) -> None:
        """Queue a datagram, and ask to be run. `ttl` is 1 to 255; `HostError` EMSGSIZE for more than IPv4 can carry."""
        ...

    def wake(self) -> None:
        """An application changed something: ask to be run."""
        ...


def choose_port(wanted: int, taken: Callable[[int], bool], getrandbits: Callable[[int], int], error: int) -> int:
    """`wanted`, or an ephemeral port if that is 0: a random one, or the next that is free (RFC 6056 3.3.1).

    `HostError` with `error` when it is taken, or all are.
    """
    if wanted:
        if taken(wanted):
            raise HostError(error, f"bind to port {wanted}")
        return wanted
    start = getrandbits(14)  # 2^14 ephemeral ports
    for step in range(len(EPHEMERAL_PORTS)):
        port = EPHEMERAL_PORTS[(start + step) % len(EPHEMERAL_PORTS)]
        if not taken(port):
            return port
    raise HostError(error, "bind to an ephemeral port")
