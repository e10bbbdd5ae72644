"""What a user-mode network tells of itself: its flows, and what the host refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from netemu.wire.address import Endpoint, IPAddress

__all__ = ["Flow", "Refusal"]


@dataclass(frozen=True, slots=True)
class Flow:
    """One connection, UDP mapping, ping session or DNS question, as the guest sees it.

    `state` is RFC 9293's for TCP (`CONNECTING` while the host's side is not there yet), else `active`. `guest` has the
    identifier as its port for a ping. `remote` is None where a mapping serves any. The counts are octets of payload: `sent` by
    the guest, `received` by it.
    """

    protocol: Literal["tcp", "udp", "icmp", "dns"]
    state: str
    guest: Endpoint
    remote: Endpoint | None
    sent: int
    received: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The host refused something that a guest asked for: `errno`, the `operation`, for whom and to where."""

    errno: int
    operation: str
    guest: Endpoint
    destination: IPAddress
