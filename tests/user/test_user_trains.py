"""Datagrams on the short way through the user network, one by one and in trains: what comes out is what the long way gives."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

import pytest
import user_driver
import user_driver6
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.net.offload import EVERYTHING, lower
from netemu.net.sockets import TrainSocket
from netemu.user.plain import IPV4, plain
from netemu.user.trains import train_of
from netemu.wire.address import Endpoint
from netemu.wire.ether import Ethernet, EtherType, pad
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.ipv6 import IPv6
from netemu.wire.udp import Udp
from netemu.wire.vnet_hdr import GSO_TCPV4, GSO_UDP_L4, NEEDS_CSUM, VnetHeader

PEER_PORT, SERVED, CLOSED = 4000, 53, 11


class Side(NamedTuple):
    """One family's laboratory, and its names for things."""

    lab: Callable[[], user_driver.Lab | user_driver6.Lab6]
    guest: IPv4Address | IPv6Address
    server: IPv4Address | IPv6Address
    gateway: IPv4Address | IPv6Address
    loopback: str
    forward: str
    transport: int


SIDES = {
    4: Side(
        user_driver.Lab, user_driver.GUEST, user_driver.SERVER, user_driver.GATEWAY, "127.0.0.1", f"udp:127.0.0.1:0-:{SERVED}", 34
    ),
    6: Side(
        user_driver6.Lab6,
        user_driver6.GUEST,
        user_driver6.SERVER,
        user_driver6.GATEWAY,
        "::1",
        f"udp:[::1]:0-[{user_driver6.GUEST}]:{SERVED}",
        54,
    ),
}


class Both:
    """A guest, servers on ports 7 and 9, and somebody at a forwarded port; everything goes one of the two ways.

    With `trains`, what can be one frame or one call of the host's is. `offloads` is what the guest takes.
    """

    def __init__(self, version: int, *, short: bool, trains: bool = False, offloads: int = 0) -> None:
        self.side = side = SIDES[version]
        self.lab = side.lab()
        self.trains = trains
        self.frames: list[bytes] = []
        self.headers: list[VnetHeader | None] = []
        self.heard: list[tuple[int, bytes, int | None]] = []
        self.lab.port.attach(self._keep, offloads=offloads)
        self.network = self.lab.network
        if not short:
            self.network._short_ways = {}
            self.network._trains._write = lambda *_: False  # type: ignore[method-assign] # everything goes the long way
        self.servers = {port: self.lab.host.open_datagram(Endpoint(side.server, port)) for port in (7, 9)}
        self.servers[PEER_PORT] = self.lab.host.udp(side.loopback, PEER_PORT).socket  # type: ignore[assignment] # a SimHost's
        for port, socket in self.servers.items():
            socket.on_datagram = self._listener(port, socket)
        self.forward = self.network.add_forward(side.forward)

    def _listener(self, port: int, socket: TrainSocket) -> Callable[[bytes, Endpoint], None]:
        return lambda data, source: self.heard.append((port, data, socket.last_ttl))  # type: ignore[attr-defined] # a SimHost's

    def _keep(self, frame: bytes, header: VnetHeader | None) -> bool:
        for piece in [frame] if header is None else lower(frame, header):
            packet = self._packet(piece)
            if isinstance(packet, IPv4 | IPv6) and self._protocol(packet) == Protocol.UDP:
                if isinstance(packet, IPv6) and packet.is_fragment:
                    piece = piece[:58] + piece[62:]  # its identification is a random number
                self.frames.append(pad(piece))
            elif isinstance(packet, IPv4 | IPv6) and self._is_error(packet):
                self.frames.append(self._error(packet))
            else:
                return self.lab._receive(piece, None)
        self.headers.append(header)
        return True

    @staticmethod
    def _packet(frame: bytes) -> IPv4 | IPv6 | None:
        ethernet = Ethernet.parse(frame)
        parse = {EtherType.IPV4: IPv4.parse, EtherType.IPV6: IPv6.parse}.get(ethernet.ethertype)  # type: ignore[call-overload] # an int
        return None if parse is None else parse(ethernet.payload)

    @staticmethod
    def _protocol(packet: IPv4 | IPv6) -> int:
        return packet.protocol if isinstance(packet, IPv4) else packet.next_header

    def _is_error(self, packet: IPv4 | IPv6) -> bool:
        return self._protocol(packet) == (1 if isinstance(packet, IPv4) else 58) and packet.payload[0] in (1, 3)

    def _error(self, packet: IPv4 | IPv6) -> bytes:
        """Type, code, and whose conversation it is about; of a train's datagrams either may be quoted."""
        quoted = packet.payload[8:]
        at = self.side.transport - 14
        return b"error" + packet.payload[:2] + packet.source.packed + quoted[at - len(self.side.server.packed) * 2 : at + 4]

    def _say(self, payload: bytes, remote: IPv4Address | IPv6Address, port: int, source_port: int, ttl: int) -> bytes:
        datagram = Udp(source_port, port, payload).pack(self.side.guest, remote)
        if isinstance(remote, IPv4Address):
            packet = IPv4(user_driver.GUEST, remote, Protocol.UDP, datagram, ttl=ttl, identification=7).pack()
            return Ethernet(user_driver.GATEWAY_MAC, user_driver.GUEST_MAC, EtherType.IPV4, packet).pack()
        packet = IPv6(user_driver6.GUEST, remote, Protocol.UDP, datagram, hop_limit=ttl).pack()
        return Ethernet(user_driver.GATEWAY_MAC, user_driver.GUEST_MAC, EtherType.IPV6, packet).pack()

    def up(self, port: int, count: int, size: int, less: int, ttl: int) -> None:
        """`count` datagrams, the last one `less` octets shorter."""
        reply = port == PEER_PORT
        remote, source_port = (self.side.gateway, SERVED) if reply else (self.side.server, 5000)
        payload = bytes(number % 251 for number in range(max(count * size - min(less, size - 1), 0)))
        if self.trains and count > 1 and size:
            header = VnetHeader(NEEDS_CSUM, GSO_UDP_L4, self.side.transport + 8, size, self.side.transport, 6)
            self.lab.port.send(self._say(payload, remote, port, source_port, ttl), header)
        else:
            for at in range(0, count * max(size, 1), max(size, 1)):
                self.lab.port.send(pad(self._say(payload[at : at + size], remote, port, source_port, ttl)))
        self.lab.run(0.001)

    def down(self, port: int, count: int, size: int) -> None:
        """A train for the guest; for the forwarded port if it is the peer's."""
        if port == PEER_PORT:
            socket = self.lab.host.udp_ports.find(self.forward.host)
            source = Endpoint(self.servers[PEER_PORT].local.address, PEER_PORT)
        else:
            socket = self.lab.host.udp_ports.find(
                Endpoint(self.lab.host.source_for(ANY[self.side.transport], self.side.server), 5000)
            )
            source = Endpoint(self.side.server, port)
        if socket is None:
            return  # nothing was sent from there yet
        payload = bytes(number % 251 for number in range(count * size))
        for part in [payload] if self.trains else [payload[at : at + size] for at in range(0, count * size or 1, size or 1)]:
            socket.on_train(part, size, source)  # type: ignore[attr-defined] # a SimHost's
        self.lab.run(0.001)

    def told(self) -> object:
        flows = [
            (flow.guest, flow.remote, flow.sent, flow.received, flow.datagrams_sent, flow.datagrams_received, flow.used)
            for flow in self.network.flows()
        ]
        return self.heard, self.frames, flows, dict(self.network.counters)


ANY = {34: IPv4Address("0.0.0.0"), 54: IPv6Address("::")}
sizes = st.sampled_from([0, 1, 18, 100, 1400, 1472, 1473, 2500])
ports = st.sampled_from([7, 9, CLOSED, PEER_PORT])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("up"), ports, st.integers(1, 5), sizes, st.integers(0, 99), st.sampled_from([1, 2, 64])),
        st.tuples(st.just("down"), st.sampled_from([7, 9, PEER_PORT]), st.integers(1, 5), sizes, st.none(), st.none()),
    ),
    max_size=12,
)
Script = list[tuple[str, int, int, int, int, int]]


def play(script: Script, version: int, *, short: bool, trains: bool = False, offloads: int = 0) -> Both:
    both = Both(version, short=short, trains=trains, offloads=offloads)
    for what, *values in script:
        if what == "up":
            both.up(*values)
        else:
            both.down(*values[:3])
    return both


@settings(max_examples=100, deadline=None)
@given(steps, st.sampled_from([4, 6]), st.booleans())
def test_datagrams_come_out_as_on_the_long_way(script: Script, version: int, trains: bool) -> None:
    long = play(script, version, short=False).told()
    assert play(script, version, short=True, trains=trains).told() == long
    assert play(script, version, short=True, trains=trains, offloads=EVERYTHING).told() == long


@pytest.mark.parametrize("version", [4, 6])
def test_a_known_flow_takes_the_short_way_both_ways(version: int) -> None:
    both = Both(version, short=True, trains=True, offloads=EVERYTHING)
    both.up(7, 1, 100, 0, 64)
    both.down(7, 1, 100)  # the guest's address is asked for
    both.down(PEER_PORT, 1, 100)
    both.heard.clear()
    both.headers.clear()
    both.network.receive = None  # type: ignore[method-assign, assignment] # the long way is closed
    both.network._realm.send_udp = None  # type: ignore[method-assign, assignment] # likewise
    for port in (7, PEER_PORT):
        both.up(port, 3, 100, 1, 64)
        both.down(port, 3, 100)
    assert [(port, len(data)) for port, data, _ in both.heard] == [
        (port, size) for port in (7, PEER_PORT) for size in (100, 100, 99)
    ]
    assert [header and (header.gso_type, header.gso_size) for header in both.headers] == [(GSO_UDP_L4, 100)] * 2


@pytest.mark.parametrize("version", [4, 6])
def test_an_answer_of_a_forwarded_port_is_the_peers_even_where_a_mapping_was_before(version: int) -> None:
    both = Both(version, short=True)
    both.lab.port.send(pad(both._say(b"before", both.side.gateway, PEER_PORT, SERVED, 64)))
    both.lab.run(0.001)
    both.down(PEER_PORT, 1, 10)
    both.heard.clear()
    both.up(PEER_PORT, 1, 20, 0, 64)
    assert [(flow.state, flow.datagrams_sent) for flow in both.network.flows()] == [("active", 1), ("forward", 1)]


@pytest.mark.parametrize("known", [True, False])
def test_a_frame_of_too_many_datagrams_is_malformed(*, known: bool) -> None:
    both = Both(4, short=True)
    if known:
        both.up(7, 1, 10, 0, 64)
        both.heard.clear()
    frame = both._say(bytes(1000), both.side.server, 7, 5000, 64)
    both.lab.port.send(frame, VnetHeader(NEEDS_CSUM, GSO_UDP_L4, 42, 1, 34, 6))
    both.lab.run()
    assert (both.heard, both.lab.counters["malformed-vnet_hdr"]) == ([], 1)


GOOD = VnetHeader(NEEDS_CSUM, GSO_UDP_L4, 42, 50, 34, 6)


def datagram(payload: bytes = bytes(100)) -> bytes:
    return Both(4, short=True)._say(payload, user_driver.SERVER, 7, 5000, 64)


@pytest.mark.parametrize(
    ("frame", "header"),
    [
        (datagram(bytes(2049)), None),
        (datagram()[:40] + b"\0\0" + datagram()[42:], None),
        (datagram()[:40] + b"\0\1" + datagram()[42:], None),
        (datagram()[:38] + b"\0\x6b" + datagram()[40:], None),
        (datagram(), VnetHeader(NEEDS_CSUM, csum_start=34, csum_offset=16)),
        (datagram(), VnetHeader(NEEDS_CSUM, csum_start=100, csum_offset=6)),
        (datagram(), VnetHeader(NEEDS_CSUM, GSO_UDP_L4, 42, 0, 34, 6)),
        (datagram(), VnetHeader(NEEDS_CSUM, GSO_TCPV4, 42, 50, 34, 6)),
        (datagram(), VnetHeader(0, GSO_UDP_L4, 42, 50)),
    ],
)
def test_an_unusual_datagram_is_left_to_the_long_way(frame: bytes, header: VnetHeader | None) -> None:
    assert plain(frame, user_driver.GATEWAY_MAC) == (IPV4, len(frame))
    assert train_of(frame, IPV4, len(frame), header) is None
    assert train_of(datagram(), IPV4, len(datagram()), GOOD) == (bytes(100), 50)
