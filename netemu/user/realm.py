"""What the services of one user-mode network share (its address realm, RFC 2663 2.1): options, host, LAN, counters, errors.

The host's sockets speak up at any moment and know no time; an engine is only told the time when it runs. So what a host says goes
into an inbox, the network's `wakeup` is called, and the inbox is worked off at the next `transmit`. It is bounded: a datagram
that does not fit is dropped and counted (`inbox-full`), as a socket's buffer would.

Addresses have two faces: the gateway, seen by a guest, is the host's loopback, and back. Nothing else is translated.

ICMP errors quote the guest's datagram as it was sent, obey RFC 1122 3.2.2, and are limited to a thousand a second (RFC 1812
4.3.2.8).
"""

from __future__ import annotations

import errno
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Final, Self

from netemu.errors import HostError
from netemu.io.host import Host
from netemu.stack.icmp import TokenBucket, error_about
from netemu.stack.ip import choose_port
from netemu.user.flow import Refusal
from netemu.user.lan import Lan
from netemu.user.options import UserOptions
from netemu.wire.address import Endpoint
from netemu.wire.icmpv4 import Icmpv4, UnreachableCode
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.udp import Udp

__all__ = ["Quotation", "Realm"]

_LOOPBACK: Final = IPv4Address("127.0.0.1")
_INBOX_LIMIT: Final = 1024  # events
_REFUSALS: Final = 64
_QUOTED: Final = 548  # octets of a datagram that an error can hold (RFC 1812 4.3.2.3: 576 with its own headers)

# What a guest is told when the host says why not (RFC 792; code 13 RFC 1812 5.2.7.1). What is not here is HOST.
_UNREACHABLE_CODES: Final = {
    errno.ECONNREFUSED: UnreachableCode.PORT,
    errno.ENETUNREACH: UnreachableCode.NET,
    errno.ENETDOWN: UnreachableCode.NET,
    errno.EHOSTUNREACH: UnreachableCode.HOST,
    errno.EMSGSIZE: UnreachableCode.FRAGMENTATION_NEEDED,
    errno.ENOPROTOOPT: UnreachableCode.PROTOCOL,
    errno.EACCES: UnreachableCode.COMMUNICATION_PROHIBITED,
    errno.EPERM: UnreachableCode.COMMUNICATION_PROHIBITED,
}


@dataclass(frozen=True, slots=True)
class Quotation:
    """As much of a guest's datagram as an ICMP error about it needs. `head` is the datagram with its payload cut."""

    head: IPv4
    octets: bytes

    @classmethod
    def of(cls, packet: IPv4) -> Self:
        return cls(replace(packet, payload=packet.payload[:8]), packet.pack()[:_QUOTED])


class Realm:
    """One network's surroundings. `wakeup` says that the inbox has something for `transmit`."""

    def __init__(
        self, options: UserOptions, host: Host, lan: Lan, counters: Counter[str], getrandbits: Callable[[int], int]
    ) -> None:
        self.options = options
        self.host = host
        self.lan = lan
        self.counters = counters
        self.getrandbits = getrandbits
        self.refusals: deque[Refusal] = deque(maxlen=_REFUSALS)
        self.wakeup: Callable[[], None] = _nobody
        self._inbox: deque[Callable[[int], None]] = deque()
        self._errors = TokenBucket()

    # What comes from the host

    @property
    def inbox_full(self) -> bool:
        """What is posted now is dropped."""
        return len(self._inbox) >= _INBOX_LIMIT

    def post(self, event: Callable[[int], None]) -> None:
        """Run `event` with the time when the network runs next."""
        if self.inbox_full:
            self.counters["inbox-full"] += 1
            return
        self._inbox.append(event)
        self.wakeup()

    def work_off(self, now: int) -> None:
        """Run what was posted."""
        for _ in range(len(self._inbox)):
            self._inbox.popleft()(now)

    # The two faces of an address

    def to_host(self, address: IPv4Address) -> IPv4Address:
        """Where the host finds what a guest calls `address`."""
        return _LOOPBACK if address == self.options.host else address

    def to_guest(self, endpoint: Endpoint) -> Endpoint:
        """What a guest calls the host's peer `endpoint`.

        A host that is itself on a network with our addresses has peers that a guest would look for beside itself: to it they are
        the gateway, as the host's loopback is.
        """
        hidden = endpoint.address.is_loopback or endpoint.address in self.options.net
        return Endpoint(self.options.host, endpoint.port) if hidden else endpoint

    def free_endpoint(self, wanted: Endpoint, taken: Callable[[Endpoint], bool]) -> Endpoint:
        """`wanted`, or its address with another port where `taken` says so. The tables are too small to take all ports."""
        if not taken(wanted):
            return wanted
        port = choose_port(0, lambda port: taken(Endpoint(wanted.address, port)), self.getrandbits, errno.EADDRINUSE)
        return Endpoint(wanted.address, port)

    # What guests are told

    def send_udp(self, source: Endpoint, guest: Endpoint, data: bytes, now: int) -> None:
        """A UDP datagram for a guest, from an endpoint as the guest knows it."""
        payload = Udp(source.port, guest.port, data).pack(source.address, guest.address)
        self.lan.datagram(source.address, guest.address, Protocol.UDP, payload, now)

    def refused(self, error: HostError, guest: Endpoint, destination: IPv4Address) -> None:
        """Remember that the host refused something; the oldest of 64 is forgotten."""
        self.refusals.append(Refusal(error.errno or 0, error.operation, guest, destination))

    def unreachable(self, quotation: Quotation, error: int, now: int, source: IPv4Address | None = None) -> None:
        """Tell a guest why its datagram went nowhere; `error` is the host's errno, `source` who says so (the gateway)."""
        code = _UNREACHABLE_CODES.get(error, UnreachableCode.HOST)
        if code is UnreachableCode.PORT and source is None:
            source = quotation.head.destination  # only a host knows its ports
        mtu = self.options.mtu if code is UnreachableCode.FRAGMENTATION_NEEDED else 0
        self.error(quotation, Icmpv4.unreachable(code, quotation.octets, mtu), now, source)

    def error(self, quotation: Quotation, message: Icmpv4, now: int, source: IPv4Address | None = None) -> None:
        """Send `message` about what `quotation` quotes, where that is allowed; from the gateway unless `source` is given."""
        sender = source or self.options.host
        packet = error_about(quotation.head, sender, lambda _: message, identification=self.lan.next_identification())
        if packet is None:
            self.counters["icmp-error-suppressed"] += 1
        elif not self._errors.take(now):
            self.counters["icmp-error-limited"] += 1
        else:
            self.lan.send(packet, now)


def _nobody() -> None:
    """The network runs by itself: nobody has to be woken."""
