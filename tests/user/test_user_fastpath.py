"""The short way through the user network: the same frames, octets and counters as the long way, whatever a guest does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from user_driver import GATEWAY_MAC, GUEST_MAC, SERVER, Lab, see

from netemu.net.offload import EVERYTHING, lower
from netemu.user.fastpath import segment_of
from netemu.user.plain import Layout
from netemu.user.plain import plain as layout_of
from netemu.wire.ether import Ethernet, EtherType, pad
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import ACK, FIN, PSH, SYN, Tcp, TcpOptions
from netemu.wire.vnet_hdr import DATA_VALID, GSO_TCPV4, NEEDS_CSUM, VnetHeader

ISS = 1000
PORT = 4000


class Both:
    """A guest's connection to a server that echoes, and all frames that the network sent."""

    def __init__(self, *, short: bool, stamped: bool = True, offloads: int = 0) -> None:
        self.lab = Lab()
        self.frames: list[bytes] = []
        self.headers: list[VnetHeader | None] = []
        if offloads:
            self.lab.port.attach(self._keep, offloads=offloads)
        else:
            self.lab.port.receiver = self._keep
        self.stamped = stamped
        self.peer_stamp = 0
        self.received = bytearray()
        network = self.lab.network
        if not short:
            network._short_ways = {}
            network._writer.write = lambda *_: None  # type: ignore[method-assign] # everything goes the long way
        self.listener = self.lab.host.tcp_listen("198.51.100.7", 80)
        self.say(Tcp(PORT, 80, ISS, 0, SYN, 65_535, options=TcpOptions(mss=1460, window_scale=2, timestamps=self._stamps())))
        self.lab.run()
        answer = next(seen.tcp for seen in map(see, self.frames) if seen.tcp is not None)
        self.nxt = ISS + 1
        self.acknowledged = (answer.sequence + 1) & 0xFFFFFFFF
        self.first = self.acknowledged
        self.segment(b"")
        self.lab.run()
        self.server = self.listener.accept()

    def _keep(self, frame: bytes, header: VnetHeader | None) -> bool:
        seen = see(frame) if header is None else None
        if seen is not None and seen.arp is not None:
            return self.lab._receive(frame, header)
        self.frames.append(frame)
        self.headers.append(header)
        return True

    def _stamps(self) -> tuple[int, int] | None:
        return (77, self.peer_stamp) if self.stamped else None

    def say(self, segment: Tcp) -> None:
        self.lab.tcp(SERVER, segment)

    def segment(self, payload: bytes, flags: int = ACK) -> None:
        self.say(Tcp(PORT, 80, self.nxt, self.acknowledged, flags, 60_000, payload, options=TcpOptions(timestamps=self._stamps())))
        self.nxt += len(payload) + bool(flags & FIN)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("up"), st.binary(min_size=1, max_size=1448), st.sampled_from([ACK, ACK | PSH])),
        st.tuples(st.just("down"), st.binary(min_size=1, max_size=6000), st.none()),
        st.tuples(st.just("ack"), st.integers(0, 6000), st.none()),
        st.tuples(st.just("again"), st.integers(1, 3000), st.none()),
        st.tuples(st.just("wait"), st.integers(1, 300), st.none()),
    ),
    max_size=12,
)


def play(both: Both, script: list[tuple[str, object, object]], *, finish: bool) -> tuple[list[bytes], bytes, dict[str, int]]:
    sent_down = 0
    for what, value, flags in script:
        if what == "up":
            both.segment(value, flags)  # type: ignore[arg-type] # by the strategy
        elif what == "down":
            both.server.send(value)  # type: ignore[arg-type] # likewise
            sent_down += len(value)  # type: ignore[arg-type] # likewise
        elif what == "ack":
            acknowledged = min((both.acknowledged - both.first) + int(str(value)), sent_down)
            both.lab.run(0.001)
            both.acknowledged = both.first + acknowledged
            both.segment(b"")
        elif what == "again":
            both.nxt -= min(int(str(value)), both.nxt - ISS - 1)
            both.segment(b"")
        else:
            both.lab.run(int(str(value)) / 1000)
    if finish:
        both.segment(b"", ACK | FIN)
    both.lab.run(0.01)
    available = both.server.socket.available()
    octets = bytearray(available)
    both.server.socket.read_into(0, memoryview(octets))
    return both.frames, bytes(octets), dict(both.lab.counters)


@settings(max_examples=60, deadline=None)
@given(steps, st.booleans(), st.booleans())
def test_both_ways_say_the_same(script: list[tuple[str, object, object]], stamped: bool, finish: bool) -> None:
    short = play(Both(short=True, stamped=stamped), script, finish=finish)
    long = play(Both(short=False, stamped=stamped), script, finish=finish)
    assert short == long


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=1, max_size=14_000), st.booleans())
def test_long_segments_are_cut_into_what_would_have_been_sent(octets: bytes, stamped: bool) -> None:
    both = Both(short=True, stamped=stamped, offloads=EVERYTHING)
    both.frames.clear()
    both.headers.clear()
    both.server.send(octets)
    both.lab.run(0.001)
    stream = b""
    for frame, header in zip(both.frames, both.headers, strict=True):
        assert header is not None
        for piece in lower(frame, header):
            assert len(piece) <= 1514
            segment = see(piece).tcp
            assert segment is not None
            assert segment.sequence == (both.first + len(stream)) & 0xFFFFFFFF
            stream += segment.payload
    assert stream == octets
    assert len(both.frames) == 1


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=1, max_size=60_000), st.integers(536, 1448))
def test_a_long_segment_is_taken_whole(octets: bytes, size: int) -> None:
    both = Both(short=True)
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
        frame = plain(options=options)
        segment = segment_of(memoryview(frame), *found(frame), None)
        assert segment is not None
        assert replace(segment, payload=bytes(segment.payload)) == Tcp(PORT, 80, 5, 6, ACK, 7, b"payload", options=options)


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
        plain(flags=ACK | FIN),
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


# Datagrams


def datagrams(script: list[tuple[int, int, int]], *, short: bool) -> tuple[list[object], list[bytes], dict[str, int]]:
    """Datagrams to servers that echo, one that nobody answers, and what came of it."""
    lab = Lab()
    if not short:
        lab.network._short_ways = {}
        lab.network._trains._write = lambda *_: False  # type: ignore[method-assign] # everything goes the long way
    servers = {port: lab.host.udp("198.51.100.7", port) for port in (7, 9)}
    heard = []
    for port, size, ttl in script:
        lab.udp(SERVER, port, bytes(size), ttl=ttl)
        lab.run(0.001)
        if port in servers:
            server = servers[port].socket
            data, source = servers[port].recv()
            heard.append(data)
            server.send_to(data[::-1], source)
            lab.run(0.001)
    return [seen.frame for seen in lab.take(0.01)], heard, dict(lab.counters)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([7, 9, 11]), st.integers(0, 2500), st.integers(2, 64)), max_size=10))
def test_both_ways_carry_the_same_datagrams(script: list[tuple[int, int, int]]) -> None:
    fitting = [(port, min(size, 1472 if size % 2 else 2500), ttl) for port, size, ttl in script]
    assert datagrams(fitting, short=True) == datagrams(fitting, short=False)


def test_datagrams_of_a_known_mapping_go_the_short_way() -> None:
    lab, taken = Lab(), []
    receive = lab.network._udp.receive_fast
    lab.network._udp.receive_fast = lambda *given: taken.append(receive(*given)) or taken[-1]  # type: ignore[method-assign] # looks on
    lab.host.udp("198.51.100.7", 7)
    for _ in range(3):
        lab.udp(SERVER, 7, b"data")
        lab.run(0.001)
    assert taken == [False, True, True]
