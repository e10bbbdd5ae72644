"""The short way through the user network: the same frames, octets and counters as the long way, whatever a guest does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from user_driver import GATEWAY_MAC, GUEST_MAC, SERVER, Lab, see
from user_driver6 import GUEST as GUEST6
from user_driver6 import SERVER as SERVER6
from user_driver6 import Lab6
from user_driver6 import see as see6

from netemu.net.offload import EVERYTHING, lower
from netemu.stack.tcp import TcpConnection
from netemu.user.fastpath import segment_of
from netemu.user.plain import Layout
from netemu.user.plain import plain as layout_of
from netemu.wire.address import Endpoint
from netemu.wire.checksum import internet_checksum
from netemu.wire.ether import Ethernet, EtherType, pad
from netemu.wire.icmpv4 import Icmpv4
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.ipv6 import IPv6
from netemu.wire.tcp import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG, Tcp, TcpOptions
from netemu.wire.vnet_hdr import DATA_VALID, GSO_TCPV4, NEEDS_CSUM, VnetHeader

ISS = 1000
PORT = 4000


class Both:
    """A guest's connection to a server that echoes, and all frames that the network sent."""

    def __init__(self, *, short: bool, stamped: bool = True, offloads: int = 0, iss: int = ISS, family: int = 4) -> None:
        self.lab: Lab | Lab6 = Lab() if family == 4 else Lab6()
        self.server_address: Any = SERVER if family == 4 else SERVER6
        self.see: Callable[[bytes], Any] = see if family == 4 else see6
        self.frames: list[bytes] = []
        self.headers: list[VnetHeader | None] = []
        if offloads:
            self.lab.port.attach(self._keep, offloads=offloads)
        else:
            self.lab.port.receiver = self._keep
        self.stamped = stamped
        self.window = 60_000
        self.peer_stamp = 0
        self.received = bytearray()
        network = self.lab.network
        if not short:
            network._short_ways = {}
            network._writer.write = lambda *_: None  # type: ignore[method-assign] # everything goes the long way
        self.listener = self.lab.host.tcp_listen(self.server_address, 80)
        self.say(Tcp(PORT, 80, iss, 0, SYN, 65_535, options=TcpOptions(mss=1460, window_scale=2, timestamps=self._stamps())))
        self.lab.run()
        answer = next(seen.tcp for seen in map(self.see, self.frames) if seen.tcp is not None)
        self.nxt = (iss + 1) & 0xFFFFFFFF
        self.acknowledged = (answer.sequence + 1) & 0xFFFFFFFF
        self.first = self.acknowledged
        self.segment(b"")
        self.lab.run()
        self.server = self.listener.accept()

    def _keep(self, frame: bytes, header: VnetHeader | None) -> bool:
        seen = self.see(frame) if header is None else None
        if seen is not None and seen.tcp is None:  # ARP, neighbour discovery
            return self.lab._receive(frame, header)
        self.frames.append(frame)
        self.headers.append(header)
        return True

    def _stamps(self) -> tuple[int, int] | None:
        return (77, self.peer_stamp) if self.stamped else None

    def say(self, segment: Tcp) -> None:
        self.lab.tcp(self.server_address, segment)

    def segment(self, payload: bytes, flags: int = ACK) -> None:
        options = TcpOptions(timestamps=self._stamps())
        self.say(Tcp(PORT, 80, self.nxt, self.acknowledged, flags, self.window, payload, options=options))
        self.nxt = (self.nxt + len(payload) + bool(flags & FIN)) & 0xFFFFFFFF


families = st.sampled_from([4, 6])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("up"), st.binary(min_size=1, max_size=1448), st.sampled_from([ACK, ACK | PSH])),
        st.tuples(st.just("down"), st.binary(min_size=1, max_size=6000), st.none()),
        st.tuples(st.just("ack"), st.integers(0, 6000), st.none()),
        st.tuples(st.just("again"), st.integers(1, 3000), st.none()),
        st.tuples(st.just("gap"), st.binary(min_size=1, max_size=1448), st.integers(1, 3000)),
        st.tuples(st.just("window"), st.sampled_from([0, 1, 400, 2000, 60_000]), st.none()),
        st.tuples(st.just("end"), st.none(), st.none()),
        st.tuples(st.just("wait"), st.integers(1, 300), st.none()),
    ),
    max_size=14,
)


def play(both: Both, script: list[tuple[str, Any, Any]], *, finish: bool) -> tuple[list[bytes], bytes, dict[str, int]]:
    sent_down, ended = 0, False
    for what, value, more in script:
        if what == "up":
            both.segment(value, more)
        elif what == "down" and not ended:
            both.server.socket.offer(value)
            sent_down += len(value)
        elif what == "ack":
            acknowledged = min((both.acknowledged - both.first & 0xFFFFFFFF) + value, sent_down)
            both.lab.run(0.001)
            both.acknowledged = (both.first + acknowledged) & 0xFFFFFFFF
            both.segment(b"")
        elif what == "again":
            both.nxt = (both.nxt - value) & 0xFFFFFFFF
            both.segment(b"")
            both.nxt = (both.nxt + value) & 0xFFFFFFFF
        elif what == "gap":
            both.nxt = (both.nxt + more) & 0xFFFFFFFF
            both.segment(value)
            both.nxt = (both.nxt - more - len(value)) & 0xFFFFFFFF
        elif what == "window":
            both.window = value
            both.segment(b"")
        elif what == "end":
            both.server.shutdown()
            ended = True
        elif what == "wait":
            both.lab.run(value / 1000)
    if finish:
        both.segment(b"", ACK | FIN)
    both.lab.run(0.01)
    available = both.server.socket.available()
    octets = bytearray(available)
    both.server.socket.read_into(0, memoryview(octets))
    return both.frames, bytes(octets), dict(both.lab.counters)


@settings(max_examples=150, deadline=None)
@given(steps, st.booleans(), st.booleans(), st.sampled_from([ISS, 0xFFFFFF00]), families)
def test_both_ways_say_the_same(script: list[tuple[str, Any, Any]], stamped: bool, finish: bool, iss: int, family: int) -> None:
    short = play(Both(short=True, stamped=stamped, iss=iss, family=family), script, finish=finish)
    with patch.object(TcpConnection, "next_plain", return_value=None):
        long = play(Both(short=False, stamped=stamped, iss=iss, family=family), script, finish=finish)
    assert short == long


@pytest.mark.parametrize("family", [4, 6])
def test_what_was_to_be_expected_is_predicted(family: int) -> None:
    both, taken = Both(short=True, family=family), []
    predicted = TcpConnection.receive_predicted

    def look_on(*given: Any) -> bool:
        taken.append(predicted(*given))
        return taken[-1]

    with patch.object(TcpConnection, "receive_predicted", look_on):
        for _ in range(3):
            both.segment(b"question", ACK | PSH)
            both.lab.run(0.001)
            both.server.send(b"answer")
            both.lab.run(0.001)
            both.acknowledged += len(b"answer")
        both.nxt += 1
        both.segment(b"a gap")
        both.lab.run(0.001)
    assert taken == [True, True, True, False]


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=1, max_size=14_000), st.booleans(), families)
def test_long_segments_are_cut_into_what_would_have_been_sent(octets: bytes, stamped: bool, family: int) -> None:
    both = Both(short=True, stamped=stamped, offloads=EVERYTHING, family=family)
    both.frames.clear()
    both.headers.clear()
    both.server.send(octets)
    both.lab.run(0.001)
    stream = b""
    for frame, header in zip(both.frames, both.headers, strict=True):
        assert header is not None
        for piece in lower(frame, header):
            assert len(piece) <= 1514
            segment = both.see(piece).tcp
            assert segment is not None
            assert segment.sequence == (both.first + len(stream)) & 0xFFFFFFFF
            stream += segment.payload
    assert stream == octets
    assert len(both.frames) == 1


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=1, max_size=60_000), st.integers(536, 1448))
def test_a_long_segment_is_taken_whole(octets: bytes, size: int) -> None:
    both = Both(short=True)
    assert isinstance(both.lab, Lab)
    options = TcpOptions(timestamps=(78, 0))
    segment = Tcp(PORT, 80, both.nxt, both.acknowledged, ACK | PSH, 60_000, octets, options=options)
    packet = both.lab.packet(SERVER, Protocol.TCP, segment.pack_partial(both.lab.address, SERVER))
    frame = Ethernet(GATEWAY_MAC, GUEST_MAC, EtherType.IPV4, packet.pack()).pack()
    both.lab.port.send(pad(frame), VnetHeader(NEEDS_CSUM, GSO_TCPV4, 66, size, 34, 16))
    both.lab.run(0.001)
    assert both.server.recv_exactly(len(octets)) == octets


def plain(payload: bytes = b"payload", options: TcpOptions = TcpOptions(), flags: int = ACK, **fields: object) -> bytes:  # noqa: B008 - frozen
    lab = Lab()
    segment = Tcp(PORT, 80, 5, 6, flags, 7, payload, options=options).pack(lab.address, SERVER)
    packet = replace(lab.packet(SERVER, Protocol.TCP, segment), **fields)  # type: ignore[arg-type] # fields of IPv4
    return pad(Ethernet(GATEWAY_MAC, GUEST_MAC, EtherType.IPV4, packet.pack()).pack())


def found(frame: bytes) -> tuple[Layout, int]:
    layout_and_end = layout_of(frame, GATEWAY_MAC)
    assert layout_and_end is not None
    return layout_and_end


def test_an_ordinary_segment_is_for_the_short_way() -> None:
    for options in (TcpOptions(), TcpOptions(timestamps=(1, 2))):
        for flags in (ACK, ACK | PSH, ACK | PSH | FIN):
            frame = plain(options=options, flags=flags)
            segment = segment_of(memoryview(frame), *found(frame), None)
            assert segment == (5, 6, flags, 7, options.timestamps, b"payload")


@pytest.mark.parametrize(
    "frame",
    [
        plain(ttl=1),
        plain(more_fragments=True),
        plain(fragment_offset=8),
        plain()[:40],
        GUEST_MAC + plain()[6:],
        plain()[:12] + b"\x86\xdd" + plain()[14:],
        plain()[:14] + b"\x46" + plain()[15:],
        plain()[:24] + b"\0\0" + plain()[26:],
    ],
)
def test_an_unusual_datagram_is_left_to_the_long_way(frame: bytes) -> None:
    assert layout_of(frame, GATEWAY_MAC) is None


@pytest.mark.parametrize(
    "frame",
    [
        plain(flags=SYN),
        plain(flags=ACK | RST),
        plain(flags=ACK | URG),
        plain(flags=0),
        plain(options=TcpOptions(sack=((1, 2),))),
        plain(options=TcpOptions(timestamps=(1, 2), sack=((1, 2),))),
        plain()[:55] + b"\xff" + plain()[56:],
    ],
)
def test_an_unusual_segment_is_left_to_the_long_way(frame: bytes) -> None:
    assert segment_of(memoryview(frame), *found(frame), None) is None


def test_a_sender_may_vouch_for_the_checksum() -> None:
    frame = plain()[:50] + b"\0\0" + plain()[52:]
    assert segment_of(frame, *found(frame), None) is None
    for flags in (NEEDS_CSUM, DATA_VALID):
        assert segment_of(frame, *found(frame), VnetHeader(flags)) is not None


def test_a_checksum_that_points_outside_is_counted() -> None:
    both = Both(short=True)
    both.lab.port.send(bytes(60), VnetHeader(NEEDS_CSUM, csum_start=100))
    both.lab.run()
    assert both.lab.counters["malformed-vnet_hdr"] == 1


def test_the_datagram_that_a_plain_frame_holds_has_its_length() -> None:
    frame = plain(b"x")
    assert found(frame)[1] == 14 + IPv4.parse(frame[14:]).header_length + 21


# Connections

Opening = tuple[str, int, int, int, TcpOptions, bytes, str]
TIMESTAMPED = TcpOptions(mss=1460, window_scale=7, sack_permitted=True, timestamps=(1, 0))
DESTINATIONS = {
    4: (str(SERVER), "10.0.2.2", "198.51.100.9", "10.0.2.3", "10.0.2.77"),
    6: (str(SERVER6), "fec0::2", "2001:db8:1::9", "fec0::3", "fec0::77"),
}


def opening(lab: Lab | Lab6, destination: str, segment: Tcp, how: str) -> None:
    """The guest says it; `how` is the checksum: right, wrong, or left to us."""
    to = ip_address(destination)
    source = lab.address if isinstance(lab, Lab) else GUEST6
    octets = bytearray(segment.pack_partial(source, to) if how == "partial" else segment.pack(source, to))
    if how == "wrong":
        octets[16] ^= 0x40
    if isinstance(lab, Lab):
        ethertype, packet = EtherType.IPV4, lab.packet(IPv4Address(destination), Protocol.TCP, bytes(octets)).pack()
    else:
        ethertype, packet = EtherType.IPV6, IPv6(GUEST6, IPv6Address(destination), Protocol.TCP, bytes(octets)).pack()
    header = VnetHeader(NEEDS_CSUM, csum_start=14 + len(packet) - len(octets), csum_offset=16) if how == "partial" else None
    lab.port.send(pad(Ethernet(GATEWAY_MAC, GUEST_MAC, ethertype, packet).pack()), header)


def openings(script: list[Opening], *, short: bool, family: int) -> tuple[list[bytes], dict[str, int], list[tuple[Endpoint, str]]]:
    """SYNs to a server, to what refuses them, and to nowhere."""
    lab: Lab | Lab6 = Lab() if family == 4 else Lab6()
    lab.host.tcp_listen(DESTINATIONS[family][0], 80)
    lab.host.unreachable(f"{DESTINATIONS[family][2]}/{32 if family == 4 else 128}")
    if not short:
        lab.network._short_ways = {}
    frames = []
    for destination, source_port, port, flags, options, payload, how in script:
        segment = Tcp(source_port, port, 1000, 0, flags, 65_535, payload, options=options)
        opening(lab, destination, segment, how)
        frames += [seen.frame.pack() for seen in lab.take(0.01)]
    frames += [seen.frame.pack() for seen in lab.take(2)]
    return frames, dict(lab.counters), [(flow.guest, flow.state) for flow in lab.network.flows()]


def scripts(family: int) -> st.SearchStrategy[list[Opening]]:
    return st.lists(
        st.tuples(
            st.sampled_from(DESTINATIONS[family]),
            st.sampled_from([4000, 4001, 4002]),
            st.sampled_from([80, 80, 81]),
            st.sampled_from([SYN, SYN, SYN, SYN | ECE | CWR, SYN | ACK, SYN | FIN, RST]),
            st.sampled_from([TcpOptions(), TIMESTAMPED]),
            st.sampled_from([b"", b"early"]),
            st.sampled_from(["right", "right", "partial", "wrong"]),
        ),
        max_size=8,
    )


@settings(max_examples=100, deadline=None)
@given(st.data(), families)
def test_both_ways_open_the_same_connections(data: st.DataObject, family: int) -> None:
    script = data.draw(scripts(family))
    assert openings(script, short=True, family=family) == openings(script, short=False, family=family)


@pytest.mark.parametrize("family", [4, 6])
def test_the_second_connection_to_an_address_goes_the_short_way(family: int) -> None:
    lab: Lab | Lab6 = Lab() if family == 4 else Lab6()
    taken = []
    receive = lab.network._tcp.receive_fast
    lab.network._short_ways[Protocol.TCP] = lambda *given: taken.append(receive(*given)) or taken[-1]  # type: ignore[func-returns-value]
    for source_port, flags in ((4000, SYN), (4001, SYN), (4002, SYN | ECE | CWR), (4003, SYN)):
        segment = Tcp(source_port, 80, 1000, 0, flags, 65_535, options=TIMESTAMPED)
        opening(lab, DESTINATIONS[family][0], segment, "right")
        lab.run(0.001)
    assert taken == [None, True, None, True]


@pytest.mark.parametrize("family", [4, 6])
def test_an_address_that_became_ours_opens_nothing(family: int) -> None:
    """A peer of a forwarded port may be shown under any address."""
    lab: Lab | Lab6 = Lab() if family == 4 else Lab6()
    for source_port in (4000, 4001):
        segment = Tcp(source_port, 80, 1000, 0, SYN, 65_535)
        opening(lab, DESTINATIONS[family][0], segment, "right")
        lab.run(0.001)
        lab.network._realm.sides[family].add_own(lab.address if isinstance(lab, Lab) else GUEST6)
    assert lab.counters["source-refused"] == 1


# Pings


def pings(script: list[tuple[str, int, int, bool]], *, short: bool) -> tuple[list[bytes], dict[str, int]]:
    """Pings of the gateway, a name server, and a neighbour; some with another code, some with a wrong checksum."""
    lab = Lab()
    if not short:
        lab.network._short_ways = {}
    frames = []
    for destination, size, code, right in script:
        message = replace(Icmpv4.echo_request(7, size, bytes(range(256)) * 8), code=code)
        octets = message.pack()[: 8 + size]
        octets = octets[:2] + internet_checksum(octets[:2] + b"\0\0" + octets[4:]).to_bytes(2, "big") + octets[4:]
        packet = lab.packet(IPv4Address(destination), Protocol.ICMP, octets if right else octets[:-1] + b"\x55")
        lab.port.send(pad(Ethernet(GATEWAY_MAC, GUEST_MAC, EtherType.IPV4, packet.pack()).pack()))
        frames += [seen.frame for seen in lab.take(0.01)]
    return [frame.pack() for frame in frames], dict(lab.counters)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["10.0.2.2", "10.0.2.2", "10.0.2.3", "10.0.2.9"]),
            st.integers(0, 1472),
            st.sampled_from([0, 0, 1]),
            st.sampled_from([True, True, False]),
        ),
        max_size=8,
    )
)
def test_both_ways_answer_the_same_pings(script: list[tuple[str, int, int, bool]]) -> None:
    assert pings(script, short=True) == pings(script, short=False)


def test_the_second_ping_goes_the_short_way() -> None:
    lab, taken = Lab(), []
    receive = lab.network._echo.receive_fast
    lab.network._short_ways[Protocol.ICMP] = lambda *given: taken.append(receive(*given)) or taken[-1]
    for _ in range(3):
        packet = lab.packet(IPv4Address("10.0.2.2"), Protocol.ICMP, Icmpv4.echo_request(7, 1, b"ping").pack())
        lab.port.send(pad(Ethernet(GATEWAY_MAC, GUEST_MAC, EtherType.IPV4, packet.pack()).pack()))
        lab.run(0.001)
    assert taken == [None, True, True]
