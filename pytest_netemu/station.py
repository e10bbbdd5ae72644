"""A station: a frame-level endpoint on a cable, for checks that no well-behaved part could make.

It sends any frame, says what it expects to see and for how long, and explains what it saw instead:

    station.send(station.ethernet(mac, EtherType.ARP, Arp(...).pack()))
    reply = station.expect(Arp, operation=ArpOperation.REPLY, sender_ip=address)
    assert reply[Arp].sender_mac == reply[Ethernet].source

An expectation names a layer and any of its fields; a field that is not named is don't-care, one whose value is a function is asked.
`expect` takes the first frame that matches out of the inbox and leaves the others; `silence` holds if none comes. `answer` has a
function called with each frame that matches, from inside the loop, while a test waits for something else. A station answers ARP
requests for its own address, as any host would, unless it is told not to; it does nothing else by itself.

`netemu_tester` is a station in a guest's place (`pytest_netemu.tester`), `netemu_wire` one in the network's (`pytest_netemu.wire`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final, TypedDict, Unpack

from netemu.net.clock import nanoseconds
from netemu.net.port import Port
from netemu.network import Network
from netemu.wire.address import BROADCAST_MAC, ZERO_MAC, MacAddress
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv4 import Icmpv4
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.udp import Udp
from netemu.wire.vnet_hdr import VnetHeader
from pytest_netemu.outcomes import Inconclusive
from pytest_netemu.packet import Layer, Packet, matches, words

__all__ = ["ANY", "LIMITED_BROADCAST", "IpFields", "Station"]

ANY: Final = IPv4Address("0.0.0.0")
LIMITED_BROADCAST: Final = IPv4Address("255.255.255.255")

_SHOWN: Final = 12  # frames that a failing expectation lists


class IpFields(TypedDict, total=False):
    """What a check may say of an IPv4 header."""

    source: IPv4Address
    ttl: int
    identification: int
    dont_fragment: bool
    more_fragments: bool
    fragment_offset: int
    dscp: int
    options: bytes


class Station:
    """An endpoint with one hardware address and one IPv4 address. `opposite` is whom it talks to unless a check says otherwise."""

    def __init__(self, network: Network, name: str, mac: MacAddress, address: IPv4Address, opposite: IPv4Address) -> None:
        self.network = network
        self.mac = mac
        self.address = address
        self.opposite = opposite
        self.answers_arp = True
        self.inbox: list[Packet] = []
        self._responders: list[Callable[[Packet], None]] = []
        self._macs: dict[IPv4Address, MacAddress] = {}
        self._next_port = 49_152  # RFC 6335 6, the first dynamic port
        self._next_identification = 0
        self.port = Port(network.loop, name)
        self.port.attach(self._receive)
        self.answer(Arp, self._answer_arp, operation=ArpOperation.REQUEST)

    # Sending

    def send(self, frame: bytes) -> None:
        """Put a frame on the cable, as it is."""
        with self.network.loop:
            self.port.send(frame)

    def ethernet(self, destination: MacAddress, ethertype: int, payload: bytes) -> bytes:
        """A frame from the station."""
        return Ethernet(destination, self.mac, ethertype, payload).pack()

    def ip(self, destination: IPv4Address, protocol: int, payload: bytes, **header: Unpack[IpFields]) -> IPv4:
        """A datagram from the station's address, whose identification counts, unless `header` says otherwise."""
        self._next_identification += 1
        datagram = IPv4(self.address, destination, protocol, payload, identification=self._next_identification & 0xFFFF)
        return replace(datagram, **header)

    def send_ip(self, datagram: IPv4, destination: MacAddress | None = None) -> IPv4:
        """Send a datagram to the next hop, or to the hardware address `destination`; gives it back."""
        self.send(self.ethernet(destination or self.next_hop(datagram.destination), EtherType.IPV4, datagram.pack()))
        return datagram

    def send_icmp(self, message: Icmpv4, destination: IPv4Address | None = None, **header: Unpack[IpFields]) -> IPv4:
        """Send an ICMP message."""
        return self.send_ip(self.ip(destination or self.opposite, Protocol.ICMP, message.pack(), **header))

    def send_udp(
        self,
        payload: bytes,
        port: int,
        destination: IPv4Address | None = None,
        *,
        source_port: int = 40_000,
        **header: Unpack[IpFields],
    ) -> IPv4:
        """Send a UDP datagram."""
        target = destination or self.opposite
        udp = Udp(source_port, port, payload).pack(header.get("source", self.address), target)
        return self.send_ip(self.ip(target, Protocol.UDP, udp, **header))

    # Seeing

    def expect(
        self, layer: type[Layer], condition: Callable[[Layer], bool] | None = None, *, within: float = 1.0, **fields: object
    ) -> Packet:
        """The first frame with `layer` and these fields, within so many seconds; an `AssertionError` says what came instead."""
        __tracebackhide__ = True
        found = self.wait(layer, condition, within=within, **fields)
        if found is None:
            raise AssertionError(f"expected {words(layer, condition, fields)} within {within:g} s, but {self._saw()}")
        return found

    def wait(
        self, layer: type[Layer], condition: Callable[[Layer], bool] | None = None, *, within: float = 1.0, **fields: object
    ) -> Packet | None:
        """As `expect`, but None if nothing came."""
        loop = self.network.loop

        def first() -> Packet | None:
            return next((packet for packet in self.inbox if matches(packet, layer, condition, fields)), None)

        loop.run_until(lambda: first() is not None, loop.now() + nanoseconds(within))
        found = first()
        if found is not None:
            self.inbox.remove(found)
        return found

    def silence(
        self, layer: type[Layer], condition: Callable[[Layer], bool] | None = None, *, within: float = 2.0, **fields: object
    ) -> None:
        """Nothing like this comes for `within` seconds; a lost observation is `Inconclusive`, not silence."""
        __tracebackhide__ = True
        found = self.wait(layer, condition, within=within, **fields)
        if found is not None:
            raise AssertionError(f"expected no {words(layer, condition, fields)}, but this came: {found}")
        if self.network.frames.overflowed or self.port.counters["dropped-full"]:
            raise Inconclusive("frames were lost while nothing was to be seen, so silence was not observed")

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.network.run_for(seconds)

    def drain(self) -> None:
        """Let what is under way arrive, then forget everything in the inbox."""
        self.run_for(0.01)
        self.inbox.clear()

    def answer(
        self,
        layer: type[Layer],
        responder: Callable[[Packet], None],
        condition: Callable[[Layer], bool] | None = None,
        **fields: object,
    ) -> Callable[[], None]:
        """Call `responder` with each frame that matches, when it comes; the inbox has it too. What is returned ends that."""

        def respond(packet: Packet) -> None:
            if matches(packet, layer, condition, fields):
                responder(packet)

        self._responders.append(respond)
        return lambda: self._responders.remove(respond)

    # Addresses

    def next_hop(self, destination: IPv4Address) -> MacAddress:
        """Where a datagram is sent: to everybody or to the opposite station, whose hardware address is asked for."""
        return BROADCAST_MAC if destination == LIMITED_BROADCAST else self.resolve(self.opposite)

    def resolve(self, address: IPv4Address) -> MacAddress:
        """The hardware address of `address`, by ARP; asked once."""
        if address not in self._macs:
            self.send_arp(ArpOperation.REQUEST, address)
            self._macs[address] = self.expect(Arp, operation=ArpOperation.REPLY, sender_ip=address)[Arp].sender_mac
        return self._macs[address]

    def send_arp(self, operation: ArpOperation, target: IPv4Address, *, sender: IPv4Address | None = None) -> None:
        """Broadcast an ARP packet about `target`."""
        packet = Arp(operation, self.mac, self.address if sender is None else sender, ZERO_MAC, target)
        self.send(self.ethernet(BROADCAST_MAC, EtherType.ARP, packet.pack()))

    def fresh_port(self) -> int:
        """A source port that this station has not used yet."""
        self._next_port += 1
        return self._next_port

    # Inside

    def _receive(self, frame: bytes, header: VnetHeader | None) -> bool:
        del header  # a station offers no offloads
        packet = Packet.read(frame, self.network.loop.now())
        self.inbox.append(packet)
        for respond in tuple(self._responders):
            respond(packet)
        return True

    def _answer_arp(self, packet: Packet) -> None:
        question = packet[Arp]
        if self.answers_arp and question.target_ip == self.address:
            answer = Arp(ArpOperation.REPLY, self.mac, self.address, question.sender_mac, question.sender_ip)
            self.port.send(self.ethernet(question.sender_mac, EtherType.ARP, answer.pack()))

    def _saw(self) -> str:
        if not self.inbox:
            return "nothing came"
        lines = "".join(f"\n  {packet.time / 1e9:.6f} s  {packet}" for packet in self.inbox[-_SHOWN:])
        count = len(self.inbox)
        what = "these are all that came" if count <= _SHOWN else f"{count} frames came, of which these are the last"
        return f"{what}:{lines}"
