"""What the transports ask of the internet layer below them, and what it gives them, in either family.

An interface between `endpoint`, or `dual`, and the socket modules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from netemu.errors import HostError
from netemu.wire.fields import IPAddress

__all__ = ["EPHEMERAL_PORTS", "IpLayer", "IpPacket", "choose_port"]

EPHEMERAL_PORTS: Final = range(49152, 65536)  # RFC 6335 6


class IpPacket(Protocol):
    """What a transport reads of a packet that came for it: `IPv4` or `IPv6`."""

    @property
    def source(self) -> IPAddress: ...
    @property
    def destination(self) -> IPAddress: ...
    @property
    def payload(self) -> bytes: ...


class IpLayer(Protocol):
    """Sends datagrams, when the time comes: nothing leaves before the engine's `transmit`."""

    counters: Counter[str]
    getrandbits: Callable[[int], int]

    @property
    def address(self) -> IPAddress | None:
        """The interface's first address."""
        ...

    def payload_limit(self, destination: IPAddress) -> int:
        """The octets that one packet on the link carries to `destination` behind the IP header."""
        ...

    def source_for(self, destination: IPAddress) -> IPAddress:
        """The address of ours that speaks to `destination`; `HostError` ENETUNREACH without a route."""
        ...

    def send(
        self,
        source: IPAddress,
        destination: IPAddress,
        protocol: int,
        payload: bytes,
        *,
        ttl: int = 64,
        dont_fragment: bool = False,
    ) -> None:
        """Queue a packet, and ask to be run. `ttl` is 1 to 255; `HostError` EMSGSIZE for more than one can carry.

        `dont_fragment` is IPv4's; over IPv6 only the source fragments.
        """
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
