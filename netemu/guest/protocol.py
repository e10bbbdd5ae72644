"""What every guest answers to, whatever runs it: the verbs of a test, and the values they give.

A guest that cannot do something does not list it in `capabilities`, and says so in one sentence when it is asked all the same.
Times a test gives are seconds; times in results are integer nanoseconds of the network's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Protocol

from netemu.errors import LocalError
from netemu.net.port import Port
from netemu.net.sockets import DEFAULT_TIMEOUT, Address, Datagram, Listener, Stream
from netemu.stack.dhcp6_client import Lease6
from netemu.stack.lease import Lease
from netemu.stack.router_discovery import Slaac
from netemu.wire.address import IPAddress, MacAddress

__all__ = ["CAPABILITIES", "CommandResult", "Dhcp6Guest", "Guest", "Lease", "PingError", "PingResult", "SlaacGuest", "require"]

CAPABILITIES = {
    "dhcp4": "leases an address with a DHCP client of its own",
    "slaac": "configures IPv6 from router advertisements",
    "dhcp6": "leases an IPv6 address, or asks for parameters, with a DHCPv6 client of its own",
    "ipv6": "pings, connects, serves and resolves over IPv6",
    "ping": "sends ICMP echo requests and reports the answers",
    "resolve": "asks a DNS server",
    "tcp.connect": "opens TCP connections",
    "tcp.listen": "serves TCP",
    "tcp.half-close": "can finish sending and go on receiving",
    "udp": "sends and receives UDP datagrams",
    "run": "runs shell commands",
    "nic": "has the NIC model that a test chooses",
    "frames": "sends and sees raw frames at its NIC",
    "virtual-clock": "lives in the network's virtual clock",
}


@dataclass(frozen=True, slots=True)
class PingError:
    """An ICMP error that came instead of a reply: type and code of RFC 792 or RFC 4443, and who sent it (None: the local stack)."""

    type: int
    code: int
    source: IPAddress | None


@dataclass(frozen=True, slots=True)
class PingResult:
    """The outcome of `count` echo requests: replies, errors, and the silent rest."""

    destination: IPAddress
    sent: int
    rtts: tuple[int, ...] = ()
    errors: tuple[PingError, ...] = ()

    @property
    def received(self) -> int:
        return len(self.rtts)

    @property
    def ok(self) -> bool:
        """Every request was answered."""
        return self.received == self.sent

    @property
    def outcome(self) -> str:
        """`reply` (all answered), `error` (an ICMP error came), or `silence`."""
        if self.ok:
            return "reply"
        return "error" if self.errors else "silence"


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A finished command: exit status, and standard output with standard error as text."""

    status: int
    output: str


class Guest(Protocol):
    """A machine on the network."""

    name: str
    kind: str
    mac: MacAddress
    port: Port

    @property
    def capabilities(self) -> frozenset[str]:
        """Keys of `CAPABILITIES`."""
        ...

    @property
    def address(self) -> IPv4Address | None:
        """The address in use, from DHCP or `configure`."""
        ...

    def configure(self, address: Address, prefix_length: int, router: Address | None = None) -> None:
        """Set a static address instead of leasing one."""
        ...

    def dhcp4(self, *, timeout: float = 60.0) -> Lease: ...
    def ping(
        self,
        address: Address,
        *,
        count: int = 1,
        size: int = 56,
        ttl: int = 64,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> PingResult:
        """Send `count` (1 or more) echo requests of `size` (0 to 65,507) octets; waits until each is answered, or `timeout` s."""
        ...

    def resolve(self, name: str, *, server: Address | None = None, timeout: float = DEFAULT_TIMEOUT) -> Sequence[IPAddress]:
        """Ask for A records; an empty list means that the name has none."""
        ...

    def tcp_connect(self, address: Address, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> Stream: ...
    def tcp_listen(self, port: int) -> Listener: ...
    def udp(self, port: int = 0) -> Datagram: ...
    def run(self, command: str, *, timeout: float = DEFAULT_TIMEOUT) -> CommandResult: ...
    def close(self) -> None:
        """Power off: every process, socket and namespace of the guest is gone afterwards."""
        ...


class SlaacGuest(Guest, Protocol):
    """A guest that can do `slaac`."""

    def slaac(self, *, timeout: float = 60.0) -> Slaac:
        """Configure IPv6 from the routers of the link, anew; returns when no address is tentative any more.

        Without an answer of a router it is a `NetemuTimeoutError`.
        """
        ...


class Dhcp6Guest(SlaacGuest, Protocol):
    """A guest that can do `dhcp6`."""

    def dhcp6(self, *, stateless: bool = False, timeout: float = 60.0) -> Lease6:
        """Lease an IPv6 address, or with `stateless` ask for parameters alone (RFC 8415); returns when it may be used."""
        ...


def require(guest: Guest, capability: str) -> None:
    """Raise `LocalError` unless `guest` has `capability`."""
    if capability not in guest.capabilities:
        raise LocalError(
            f"guest {guest.name} ({guest.kind}) cannot do {capability!r}, which {CAPABILITIES[capability]}; "
            f"it can do {', '.join(sorted(guest.capabilities))}"
        )
