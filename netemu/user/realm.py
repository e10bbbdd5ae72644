"""What the services of one user-mode network share (its address realm, RFC 2663 2.1): options, host, LAN, counters, errors.

The host's sockets speak up at any moment and know no time; an engine is only told the time when it runs. So what a host says goes
into an inbox, the network's `wakeup` is called, and the inbox is worked off at the next `transmit`. It is bounded: a datagram
that does not fit is dropped and counted (`inbox-full`), as a socket's buffer would.

Addresses have two faces: the gateway, seen by a guest, is the host's loopback, and back. Nothing else is translated, except a peer
of the other family (a port of the host's 127.0.0.1 that is forwarded to a guest's IPv6 address): a guest cannot answer
it, so to the guest it is the gateway too.

What depends on the family of an address is asked of its side (`netemu.user.side`).
"""

from __future__ import annotations

import errno
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from netemu.errors import HostError
from netemu.io.host import Host
from netemu.stack.ip import choose_port
from netemu.user.flow import Refusal
from netemu.user.options import UserOptions
from netemu.user.side import Quotation, Side
from netemu.user.visitors import Visitors
from netemu.wire.address import Endpoint, Family, IPAddress
from netemu.wire.ipv4 import Protocol
from netemu.wire.udp import Udp

__all__ = ["Realm"]

_INBOX_LIMIT: Final = 1024  # events
_REFUSALS: Final = 64
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE})

Opened = TypeVar("Opened")


class Realm:
    """One network's surroundings. `wakeup` says that the inbox has something for `transmit`; `spare` closes a socket of the host's
    that can be done without, or is False.
    """

    def __init__(
        self,
        options: UserOptions,
        host: Host,
        sides: Iterable[Side],
        counters: Counter[str],
        getrandbits: Callable[[int], int],
    ) -> None:
        self.options = options
        self.host = host
        self.sides = {side.family: side for side in sides}
        self.visitors = Visitors(options, self.sides, self.to_guest)
        self.counters = counters
        self.getrandbits = getrandbits
        self.refusals: deque[Refusal] = deque(maxlen=_REFUSALS)
        self.wakeup: Callable[[], None] = _nobody
        self.spare: Callable[[], bool] = _nothing
        self._inbox: deque[Callable[[int], None]] = deque()

    # What comes from the host

    def open(self, opener: Callable[[], Opened]) -> Opened:
        """What `opener` opens on the host; raises `HostError`. Where there are no descriptors left, something idle is closed."""
        while True:
            try:
                return opener()
            except HostError as error:
                if error.errno not in _EXHAUSTED or not self.spare():
                    raise

    @property
    def inbox_full(self) -> bool:
        """What is posted now is dropped."""
        return len(self._inbox) >= _INBOX_LIMIT

    def post(self, event: Callable[[int], None], count: int = 1) -> None:
        """Run `event` with the time when the network runs next; `count` is how many datagrams it is about."""
        if self.inbox_full:
            self.counters["inbox-full"] += count
            return
        self._inbox.append(event)
        self.wakeup()

    def work_off(self, now: int) -> bool:
        """Run what was posted; was there anything?"""
        waiting = len(self._inbox)
        for _ in range(waiting):
            self._inbox.popleft()(now)
        return waiting > 0

    # The two faces of an address

    def side(self, address: IPAddress) -> Side:
        """The side of the network that `address`, a guest's or one it names, belongs to."""
        return self.sides[address.version]

    def is_own(self, address: IPAddress) -> bool:
        """One of the network's own addresses."""
        return self.side(address).is_own(address)

    def is_outside(self, address: IPAddress) -> bool:
        """An address at which the host's sockets serve: the gateway, which is the host itself, or one beyond it."""
        side = self.side(address)
        if address == side.gateway:
            return not self.options.disable_host_loopback
        return not side.is_own(address)

    def local_for(self, target: Endpoint) -> Endpoint | None:
        """Where a stream to `target` begins on the host; None where the host may choose, as for its own loopback."""
        source = self.source_for(target.address.version)
        return None if source.is_unspecified or target.address.is_loopback else Endpoint(source, 0)

    def source_for(self, family: Family) -> IPAddress:
        """The host's address from which guests speak, unspecified where the host may choose."""
        return self.options.outbound_addr if family == 4 else self.options.outbound_addr6

    def to_host(self, address: IPAddress) -> IPAddress:
        """Where the host finds what a guest calls `address`."""
        side = self.side(address)
        return side.loopback if address == side.gateway else address

    def to_guest(self, endpoint: Endpoint, family: Family) -> Endpoint:
        """What a guest calls the host's peer `endpoint`, in a conversation of `family`.

        A host that is itself on a network with our addresses has peers that a guest would look for beside itself: to it they are
        the gateway, as the host's loopback is.
        """
        side, address = self.sides[family], endpoint.address
        hidden = address.version != family or address.is_loopback or side.is_local(address)
        return Endpoint(side.gateway, endpoint.port) if hidden else endpoint

    def free_endpoint(self, wanted: Endpoint, taken: Callable[[Endpoint], bool]) -> Endpoint:
        """`wanted`, or its address with another port where that is 0 or `taken`. The tables are too small to take all ports."""
        if wanted.port and not taken(wanted):
            return wanted
        port = choose_port(0, lambda port: taken(Endpoint(wanted.address, port)), self.getrandbits, errno.EADDRINUSE)
        return Endpoint(wanted.address, port)

    # What guests are told

    def send_udp(self, source: Endpoint, guest: Endpoint, data: bytes, now: int) -> None:
        """A UDP datagram for a guest, from an endpoint as the guest knows it."""
        payload = Udp(source.port, guest.port, data).pack(source.address, guest.address)
        self.side(guest.address).datagram(source.address, guest.address, Protocol.UDP, payload, now)

    def refused(self, error: HostError, guest: Endpoint, destination: IPAddress) -> None:
        """Remember that the host refused something; the oldest of 64 is forgotten."""
        self.refusals.append(Refusal(error.errno or 0, error.operation, guest, destination))

    def unreachable(self, quotation: Quotation, error: int, now: int, source: IPAddress | None = None) -> None:
        """Tell a guest why its datagram went nowhere; `error` is the host's errno, `source` who says so (the gateway)."""
        self.side(quotation.head.source).unreachable(quotation, error, now, source)


def _nobody() -> None:
    """The network runs by itself: nobody has to be woken."""


def _nothing() -> bool:
    """There is nothing to spare."""
    return False
