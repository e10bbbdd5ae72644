"""Offload in software: the same octets as a sender that does everything itself, and negotiation between ports."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.net.loop import VirtualLoop
from netemu.net.offload import CSUM, EVERYTHING, TSO4, USO, complete, lower, takes
from netemu.net.port import Port, connect
from netemu.wire.address import MacAddress
from netemu.wire.errors import WireError
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import ACK, CWR, FIN, PSH, Tcp, TcpOptions
from netemu.wire.udp import Udp
from netemu.wire.vnet_hdr import GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, NEEDS_CSUM, VnetHeader

A, B = IPv4Address("10.0.2.15"), IPv4Address("192.0.2.1")
MACS = (MacAddress("52:55:0a:00:02:02"), MacAddress("52:54:00:12:34:56"))
ETHERNET, IP = 14, 20


def frame_of(payload, protocol=Protocol.TCP, identification=7):
    return Ethernet(*MACS, EtherType.IPV4, IPv4(A, B, protocol, payload, identification=identification).pack()).pack()


def request(gso_type, size, offset=16, flags=NEEDS_CSUM):
    return VnetHeader(flags, gso_type, 0, size, ETHERNET + IP, offset)


def segments(frames):
    for frame in frames:
        packet = IPv4.parse(Ethernet.parse(frame).payload)
        yield packet, Tcp.parse(packet.payload, packet.source, packet.destination)


@settings(max_examples=100, deadline=None)
@given(
    st.binary(min_size=1, max_size=5000),
    st.integers(1, 1460),
    st.sampled_from([ACK, ACK | PSH, ACK | FIN | PSH, ACK | CWR]),
    st.integers(0, 0xFFFFFFFF),
    st.booleans(),
)
def test_a_tcp_segment_is_cut_as_its_sender_would_have(payload, size, flags, sequence, stamped):
    options = TcpOptions(timestamps=(1, 2)) if stamped else TcpOptions()
    whole = Tcp(1000, 2000, sequence, 5, flags, 100, payload, options=options)
    frames = lower(frame_of(whole.pack_partial(A, B), identification=0xFFFE), request(GSO_TCPV4, size))
    expected = []
    for place, at in enumerate(range(0, len(payload), size)):
        last = at + size >= len(payload)
        own = flags & (0xFF if last else ~(FIN | PSH)) & (0xFF if place == 0 else ~CWR)
        part = Tcp(1000, 2000, (sequence + at) & 0xFFFFFFFF, 5, own, 100, payload[at : at + size], options=options)
        expected.append(frame_of(part.pack(A, B), identification=(0xFFFE + place) & 0xFFFF))
    assert frames == expected


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=1, max_size=5000), st.integers(1, 1400))
def test_datagrams_are_cut_too(payload, size):
    whole = Udp(1000, 2000, payload).pack(A, B)
    frames = lower(frame_of(whole, Protocol.UDP), request(GSO_UDP_L4, size, 6))
    assert frames == [
        frame_of(Udp(1000, 2000, payload[at : at + size]).pack(A, B), Protocol.UDP, 7 + place)
        for place, at in enumerate(range(0, len(payload), size))
    ]


def test_ipv6_segments_have_their_lengths_and_checksums():
    six = (IPv6Address("fd00::15"), IPv6Address("fd00::2"))
    segment = Tcp(1, 2, 3, 4, ACK, 5, bytes(range(100)) * 3).pack(*six)
    header = (6 << 28).to_bytes(4, "big") + len(segment).to_bytes(2, "big") + b"\x06\x40" + six[0].packed + six[1].packed
    frames = lower(
        Ethernet(*MACS, EtherType.IPV6, header + segment).pack(), VnetHeader(NEEDS_CSUM, GSO_TCPV6, 0, 128, ETHERNET + 40, 16)
    )
    assert [len(frame) for frame in frames] == [74 + 128, 74 + 128, 74 + 44]
    for place, frame in enumerate(frames):
        assert int.from_bytes(frame[18:20], "big") == len(frame) - 54
        assert Tcp.parse(frame[54:], *six).sequence == 3 + 128 * place


@given(st.binary(max_size=200))
def test_a_checksum_is_completed(payload):
    segment = Tcp(1000, 2000, 1, 2, ACK, 3, payload)
    assert complete(frame_of(segment.pack_partial(A, B)), request(0, 0)) == frame_of(segment.pack(A, B))
    assert complete(frame_of(segment.pack(A, B)), VnetHeader()) == frame_of(segment.pack(A, B))


def test_a_datagram_that_sums_to_zero_is_sent_as_all_ones():
    frame = bytes(ETHERNET + IP) + b"\xff\xff" + bytes(6)
    assert complete(frame, request(0, 0, 6))[ETHERNET + IP + 6 :] == b"\xff\xff"


@pytest.mark.parametrize(
    "header",
    [
        VnetHeader(NEEDS_CSUM, csum_start=1000),
        request(GSO_UDP, 100),
        request(GSO_TCPV4, 0),
        VnetHeader(NEEDS_CSUM, GSO_TCPV4, 0, 100, 10, 16),
        VnetHeader(NEEDS_CSUM, GSO_TCPV4, 0, 100, 90, 16),
    ],
    ids=str,
)
def test_a_request_that_makes_no_sense_is_refused(header):
    frame = frame_of(Tcp(1, 2, 3, 4, ACK, 5, b"payload").pack(A, B))
    with pytest.raises(WireError):
        lower(frame, header)


def test_headers_longer_than_the_frame_are_refused():
    frame = bytearray(frame_of(Tcp(1, 2, 3, 4, ACK, 5, b"payload").pack(A, B)))
    for data_offset in (0x40, 0xF0):
        frame[ETHERNET + IP + 12] = data_offset
        with pytest.raises(WireError):
            lower(bytes(frame), request(GSO_TCPV4, 100))


@pytest.mark.parametrize(
    ("offloads", "header", "taken"),
    [
        (0, VnetHeader(), True),
        (0, request(0, 0), False),
        (CSUM, request(0, 0), True),
        (CSUM, request(GSO_TCPV4, 100), False),
        (CSUM | TSO4, request(GSO_TCPV4, 100), True),
        (CSUM | TSO4, request(GSO_TCPV6, 100), False),
        (CSUM | TSO4, request(GSO_TCPV4 | GSO_ECN, 100), False),
        (EVERYTHING, request(GSO_TCPV4 | GSO_ECN, 100), True),
        (EVERYTHING & ~USO, request(GSO_UDP_L4, 100), False),
        (EVERYTHING, request(GSO_UDP_L4, 100), True),
        (EVERYTHING, request(GSO_UDP, 100), False),
    ],
)
def test_who_takes_what(offloads, header, taken):
    assert takes(offloads, header) is taken


# Ports


def test_a_port_does_what_its_receiver_does_not_take():
    loop, seen = VirtualLoop(), []
    a, b = Port(loop, "a"), Port(loop, "b", lambda frame, header: seen.append((frame, header)) or True)
    connect(a, b)
    segment = Tcp(1, 2, 3, 4, ACK, 5, bytes(2500))
    frame, header = frame_of(segment.pack_partial(A, B)), request(GSO_TCPV4, 1000)
    a.send(frame, header)
    loop.run_for(0)
    assert seen == [(piece, None) for piece in lower(frame, header)]
    seen.clear()
    b.attach(lambda frame, header: seen.append((frame, header)) or True, offloads=EVERYTHING)
    a.send(frame, header)
    loop.run_for(0)
    assert seen == [(frame, header)]


def test_a_port_hears_when_its_peer_takes_something_else():
    loop, told = VirtualLoop(), []
    a, b = Port(loop, "a"), Port(loop, "b")
    a.on_offloads = lambda: told.append(a.peer_offloads)
    assert a.peer_offloads == 0
    connect(a, b)
    b.attach(lambda frame, header: True, offloads=CSUM)
    assert told == [0, CSUM]


def test_at_once_is_inside_send_view_while_nothing_waits():
    loop, seen, willing = VirtualLoop(), [], [True]

    def take(frame, header):
        seen.append(frame)
        return willing[0]

    a, b = Port(loop, "a"), Port(loop, "b")
    connect(a, b)
    b.attach(take, at_once=take)
    memory = bytearray(b"one")
    assert a.send_view(memoryview(memory))
    assert seen == [b"one"]
    assert a.send(b"other")
    assert seen == [b"one"]
    loop.run_for(0)
    assert seen == [b"one", b"other"]
    willing[0] = False
    memory[:] = b"two"
    assert not a.send_view(memoryview(memory))
    memory[:] = b"six"
    assert not a.send_view(b"three")
    seen.clear()
    willing[0] = True
    b.flush()
    loop.run_for(0)
    assert seen == [b"two", b"three"]
    assert b.counters["received"] == 4
