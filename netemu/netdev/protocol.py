"""What every netdev answers to: the host's side of a NIC's cable, as QEMU's `-netdev` gives it.

A user-mode network adds what a test asks of one: where its addresses are and which ports it forwards. Ours, libslirp and any
other answer to the same `UserBackend`, so that one suite judges them all by capability, never by name.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Protocol

from netemu.io.host import Host
from netemu.net.port import Port
from netemu.user.forward import Forward

__all__ = ["BACKEND_CAPABILITIES", "Backend", "Forward", "UserBackend"]

BACKEND_CAPABILITIES = {
    "arp": "answers ARP for its own addresses",
    "dhcp4.server": "leases addresses",
    "dhcp4.extended": "has options of its DHCP server beyond QEMU's: time servers, routes, rapid commit",
    "dhcp4.bootp": "leases addresses to BOOTP clients, too",
    "guestfwd.tcp": "serves guests at addresses of their network",
    "guestfwd.ipv6": "and at their IPv6 addresses",
    "dns.forward": "forwards DNS questions to the host's resolver",
    "dhcp6.server": "tells parameters by DHCPv6",
    "icmp.echo": "answers pings to its gateway",
    "icmp.forward": "carries pings beyond the gateway over ping sockets",
    "ipv6": "is a router in IPv6, with UDP, TCP and echo through it",
    "nat.tcp": "carries the guest's TCP connections to the host",
    "nat.udp": "carries the guest's UDP datagrams to the host",
    "hostfwd.tcp": "forwards host TCP ports to the guest",
    "hostfwd.udp": "forwards host UDP ports to the guest",
    "hostfwd.ipv6": "forwards ports of IPv6 addresses, and to them",
    "hostfwd.runtime": "adds and removes forwards while running",
    "ra.goodbye": "says that its router goes when it is closed",
    "restrict": "can isolate the guest from the host",
    "tftp.server": "serves a directory of the host's by TFTP",
    "virtual-clock": "lives in the network's virtual clock",
}


class Backend(Protocol):
    """A netdev. `port` is where the NIC (or a hub) is connected."""

    id: str
    kind: str
    port: Port

    @property
    def capabilities(self) -> frozenset[str]: ...
    def close(self) -> None:
        """Give back every socket, process and port."""
        ...


class UserBackend(Backend, Protocol):
    """A user-mode network. Addresses have QEMU's names: `net`, `gateway` (option host=), `dns`, `dhcpstart`.

    `net6`, `gateway6` and `dns6` are those of IPv6; without the capability `ipv6` they are only names.
    """

    host: Host
    net: IPv4Network
    gateway: IPv4Address
    dns: IPv4Address
    dhcpstart: IPv4Address
    net6: IPv6Network
    gateway6: IPv6Address
    dns6: IPv6Address

    @property
    def forwards(self) -> tuple[Forward, ...]: ...
    def add_hostfwd(self, rule: str) -> Forward:
        """QEMU's grammar: `tcp:127.0.0.1:0-:80`. A port in use is a `HostError`."""
        ...

    def remove_hostfwd(self, forward: Forward) -> None: ...
