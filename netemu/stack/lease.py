"""What a DHCP client was given: a value, shared by the client, the guests that show it and the assertions that judge it."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

__all__ = ["Lease"]


@dataclass(frozen=True, slots=True)
class Lease:
    """What a DHCP client was given (RFC 2131). Durations are seconds, as on the wire."""

    address: IPv4Address
    prefix_length: int
    server: IPv4Address | None = None
    routers: tuple[IPv4Address, ...] = ()
    dns: tuple[IPv4Address, ...] = ()
    lease_time: int | None = None
    renewal_time: int | None = None
    rebinding_time: int | None = None
    domain: str | None = None
    hostname: str | None = None
    mtu: int | None = None
    options: dict[int, bytes] = field(default_factory=dict, compare=False)

    @property
    def network(self) -> IPv4Network:
        return IPv4Network((self.address, self.prefix_length), strict=False)

    @property
    def router(self) -> IPv4Address | None:
        return self.routers[0] if self.routers else None
