"""The guests' side of a user-mode network: its Ethernet address, ARP, fragments, and the frames that wait to be sent.

The network is one station with one MAC address, `52:55:` and the gateway's IPv4 address (libslirp's, which gives the other
addresses MACs of their own but sends from this one). It answers ARP for its own addresses only: other addresses belong to
guests that may be beside each other on a hub, so there is no proxy ARP. Guests are found by ARP like any neighbour, each at its
own address.

Datagrams larger than the MTU are cut, those that must not be are counted (`not-fragmented`). Frames wait in a bounded queue for
`transmit`; what does not fit is counted (`output-full`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address
from typing import Final

from netemu.errors import HostError
from netemu.net.port import Frame
from netemu.stack.fragments import fragment
from netemu.stack.neighbour import Conflict, NeighbourCache, NeighbourSnapshot, Resolved, SendArp
from netemu.user.options import UserOptions
from netemu.wire.address import IPAddress, MacAddress
from netemu.wire.arp import Arp
from netemu.wire.ether import Ethernet, EtherType, pad
from netemu.wire.fields import ANY_IPV4
from netemu.wire.ipv4 import IPv4
from netemu.wire.vnet_hdr import VnetHeader

__all__ = ["Lan"]

_OUTPUT_LIMIT: Final = 4096  # frames


class Lan:
    """Sends datagrams to guests. `on_unreachable` gets each one whose guest does not answer ARP."""

    def __init__(
        self,
        options: UserOptions,
        counters: Counter[str],
        identification: int,
        on_unreachable: Callable[[IPv4, int], None],
    ) -> None:
        self.mac = MacAddress(b"\x52\x55" + options.host.packed)
        self._options = options
        self._own: set[IPAddress] = set(options.own_addresses)
        self._counters = counters
        self._identification = identification
        self._on_unreachable = on_unreachable
        self._neighbours: NeighbourCache[IPv4] = NeighbourCache(self.mac, self._own.__contains__)
        self._neighbours.counters = counters
        self._reachable: dict[bytes, tuple[MacAddress, int]] = {}
        self._output: deque[tuple[Frame, VnetHeader | None]] = deque()

    def is_own(self, address: IPAddress) -> bool:
        """One of the network's addresses."""
        return address in self._own

    def add_own(self, address: IPAddress) -> None:
        """The network has this address too from now on."""
        self._own.add(address)

    def reachable(self, address: bytes, now: int) -> MacAddress | None:
        """The MAC address of the guest whose address has these octets, if it is known and need not be asked about yet.

        What was found is kept until ARP has news or a timer runs: most frames are for a guest that the last one was for.
        """
        known = self._reachable.get(address)
        if known is None or known[1] <= now:
            known = self._neighbours.reachable(IPv4Address(address), now)
            if known is None:
                return None
            self._reachable[address] = known
        return known[0]

    def receive_arp(self, packet: Arp, now: int) -> None:
        """Learn and answer; a sender that is no host of this network is counted and ignored."""
        if packet.sender_ip not in self._options.net and packet.sender_ip != ANY_IPV4:
            self._counters["arp-foreign"] += 1
            return
        self._reachable.clear()
        self._neighbours.receive(packet, now)
        self._run_events(now)

    def datagram(
        self,
        source: IPv4Address,
        destination: IPv4Address,
        protocol: int,
        payload: bytes,
        now: int,
        *,
        dont_fragment: bool = False,
    ) -> None:
        """Send a datagram of our own to the guest that has the address `destination`."""
        identification = self.next_identification()
        self.send(IPv4(source, destination, protocol, payload, identification=identification, dont_fragment=dont_fragment), now)

    def next_identification(self, count: int = 1) -> int:
        """A number that none of the last 65,535 datagrams had (RFC 791 3.2, RFC 6864 4); the first of `count` that follow on."""
        first = (self._identification + 1) & 0xFFFF
        self._identification = (self._identification + count) & 0xFFFF
        return first

    def send(self, packet: IPv4, now: int) -> None:
        """Send to the guest that has the destination address, cut to the MTU."""
        try:
            pieces = fragment(packet, self._options.mtu)
        except HostError:
            self._counters["not-fragmented"] += 1
            return
        for piece in pieces:
            mac = self._neighbours.resolve(piece.destination, self._options.host, piece, now)
            if mac is not None:
                self.send_to(piece, mac)
        self._run_events(now)

    def send_to(self, packet: IPv4, mac: MacAddress) -> None:
        """Send in a frame to `mac`, without asking anybody."""
        self.put(Ethernet(mac, self.mac, EtherType.IPV4, packet.pack()))

    def put_octets(self, frame: Frame, header: VnetHeader | None = None) -> None:
        """Queue a frame that is whole already, perhaps with a request that the port's peer takes."""
        if len(self._output) >= _OUTPUT_LIMIT:
            self._counters["output-full"] += 1
        else:
            self._output.append((frame, header))

    @property
    def waits(self) -> bool:
        """Is there a frame for `transmit`?"""
        return bool(self._output)

    def transmit(self) -> Iterator[tuple[Frame, VnetHeader | None]]:
        """The frames that wait, and those added meanwhile."""
        while self._output:
            yield self._output.popleft()

    def snapshot(self, now: int) -> tuple[int, tuple[NeighbourSnapshot, ...]]:
        """The last identification, and the guests that are known."""
        return self._identification, self._neighbours.snapshot(now)

    def restore(self, identification: int, neighbours: Iterable[NeighbourSnapshot], now: int) -> None:
        self._identification = identification
        self._neighbours.restore(neighbours, self._options.host, now)

    def deadline(self) -> int | None:
        return self._neighbours.deadline()

    def expire(self, now: int) -> None:
        self._reachable.clear()
        self._neighbours.expire(now)
        self._run_events(now)

    def put(self, frame: Ethernet) -> None:
        """Queue a frame for `transmit`."""
        self.put_octets(pad(frame.pack()))

    def _run_events(self, now: int) -> None:
        for event in self._neighbours.events():
            match event:
                case SendArp():
                    self.put(Ethernet(event.destination, self.mac, EtherType.ARP, event.arp.pack()))
                case Resolved():
                    for packet in event.packets:
                        self.send_to(packet, event.mac)
                case Conflict():
                    self._counters["address-conflict"] += 1
                case _:
                    self._counters["guest-unreachable"] += len(event.packets)
                    for packet in event.packets:
                        self._on_unreachable(packet, now)
