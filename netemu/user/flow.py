"""What a user-mode network tells of itself: its flows, and what the host refused.

Times are nanoseconds of the network's clock, counts of octets are of payload.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from netemu.wire.address import Endpoint, IPAddress

__all__ = ["Flow", "Refusal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One connection, UDP mapping, ping session, DNS question or TFTP transfer.

    `state` is RFC 9293's for TCP (`CONNECTING` while the host's side is not there yet), `forward` for a peer of a forwarded UDP
    port, `tftp` for a transfer, else `active`. `guest` and `remote` are the ends as the guest sees them: `guest` has the identifier
    as its port for a ping, `remote` is None where a mapping serves any. `local` and `peer` are the ends of the host's socket as the
    host sees it; None where there is no such socket or it is not connected.

    `sent` (by the guest) and `received` (by it) are octets, `datagrams_sent` and `datagrams_received` datagrams, 0 for TCP.
    `guest_queue`: octets from the host that the guest has not acknowledged. `host_queue`: octets of the guest's that the host has
    taken and its peer has not acknowledged.

    `opened`: when it began. `used`: when something last passed. `expires`: when it ends if nothing does; None: not by that.
    """

    protocol: Literal["tcp", "udp", "icmp", "dns"]
    state: str
    guest: Endpoint
    remote: Endpoint | None
    local: Endpoint | None = None
    peer: Endpoint | None = None
    sent: int
    received: int
    datagrams_sent: int = 0
    datagrams_received: int = 0
    guest_queue: int = 0
    host_queue: int = 0
    opened: int
    used: int
    expires: int | None = None

    def age(self, now: int) -> int:
        """Nanoseconds since it began."""
        return now - self.opened

    def idle(self, now: int) -> int:
        """Nanoseconds since something last passed."""
        return now - self.used


@dataclass(frozen=True, slots=True)
class Refusal:
    """The host refused something that a guest asked for: `errno`, the `operation`, for whom and to where."""

    errno: int
    operation: str
    guest: Endpoint
    destination: IPAddress
