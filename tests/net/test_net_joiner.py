"""Joining datagrams: what comes out, cut again, is what went in; and only what may be joined is."""

from __future__ import annotations

from collections import deque
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.net.joiner import Joiner
from netemu.net.offload import EVERYTHING, USO, USO4, USO6, complete, lower
from netemu.wire.address import MacAddress
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.ipv6 import IPv6
from netemu.wire.udp import Udp
from netemu.wire.vnet_hdr import DATA_VALID, GSO_TCPV4, GSO_UDP_L4, NEEDS_CSUM, VnetHeader

MACS = (MacAddress("52:55:0a:00:02:02"), MacAddress("52:54:00:12:34:56"))
V4 = (IPv4Address("10.0.2.15"), IPv4Address("192.0.2.1"))
V6 = (IPv6Address("fec0::15"), IPv6Address("2001:db8::7"))
REQUESTS = {4: VnetHeader(NEEDS_CSUM, csum_start=34, csum_offset=6), 6: VnetHeader(NEEDS_CSUM, csum_start=54, csum_offset=6)}
Message = tuple[VnetHeader, bytes]


def partial(datagram: Udp, *ends: IPv4Address | IPv6Address) -> bytes:
    """The datagram with the pseudo-header's sum in the place of its checksum."""
    octets = datagram.pack(*ends)
    words = sum(int(end) for end in ends) + Protocol.UDP + len(octets)
    return octets[:6] + (words % 0xFFFF).to_bytes(2, "big") + octets[8:]


def message4(payload: bytes, identification: int, port: int = 9, **fields: object) -> Message:
    packet = IPv4(
        *V4,
        Protocol.UDP,
        partial(Udp(5000, port, payload), *V4),
        identification=identification,
        **({"dont_fragment": True} | fields),
    )  # type: ignore[arg-type] # fields of IPv4
    return REQUESTS[4], Ethernet(*MACS, EtherType.IPV4, packet.pack()).pack()


def message6(payload: bytes, port: int = 9, hop_limit: int = 64) -> Message:
    packet = IPv6(*V6, Protocol.UDP, partial(Udp(5000, port, payload), *V6), hop_limit=hop_limit)
    return REQUESTS[6], Ethernet(*MACS, EtherType.IPV6, packet.pack()).pack()


def read(messages: list[Message], offloads: int = EVERYTHING) -> list[Message]:
    """What a reader makes of messages that all wait."""
    joiner, out, waiting = Joiner(), [], deque(header.pack() + frame for header, frame in messages)

    def following(places: tuple[memoryview, ...]) -> int:
        if not waiting:
            return 0
        message = left = waiting.popleft()
        for place in places:
            place[: len(left)], left = left[: len(place)], left[len(place) :]
        assert not left
        return len(message)

    length: int | None = None
    while length != 0:
        if length is None:
            length = following((joiner.memory,))
        elif joiner.opens(length, offloads):
            length = joiner.grow(following)
            frame, header = joiner.train()
            out.append((header, bytes(frame)))
            if length:
                joiner.move(length)
        else:
            out.append((VnetHeader.parse(joiner.memory[:12]), bytes(joiner.memory[12:length])))
            length = None
    return out


def cut(messages: list[Message]) -> list[bytes]:
    return [piece for header, frame in messages for piece in lower(frame, header)]


sizes = st.sampled_from([0, 1, 2, 18, 1400, 30_000])
runs = st.lists(
    st.one_of(
        st.tuples(st.just(4), sizes, st.integers(1, 70), st.integers(0, 0xFFFF), st.sampled_from([9, 10])),
        st.tuples(st.just(6), sizes, st.integers(1, 70), st.just(0), st.sampled_from([9, 10])),
    ),
    max_size=4,
)


@settings(max_examples=100, deadline=None)
@given(runs, st.sampled_from([0, USO4, USO6, USO, EVERYTHING]))
def test_what_was_joined_is_cut_into_what_came(script: list[tuple[int, int, int, int, int]], offloads: int) -> None:
    messages = []
    for version, size, count, identification, port in script:
        for number in range(count):
            payload = number.to_bytes(2, "big") * (size // 2) + b"x" * (size & 1)
            if version == 4:
                messages.append(message4(payload, identification + number & 0xFFFF, port))
            else:
                messages.append(message6(payload, port))
    joined = read(messages, offloads)
    assert cut(joined) == cut(messages)
    for header, frame in joined:
        assert len(frame) <= 65_535 + 14
        if header.gso_type:
            assert offloads & (USO4 if frame[12:14] == b"\x08\x00" else USO6)


@pytest.mark.parametrize(
    "make", [lambda number: message4(bytes([number]) * 100, 7 + number), lambda number: message6(bytes([number]) * 100)]
)
def test_a_train_is_one_frame_whose_checksums_can_be_completed(make) -> None:  # type: ignore[no-untyped-def] # of message4 and message6
    ((header, frame),) = read([make(number) for number in range(64)])
    assert (header.gso_type, header.gso_size, header.flags) == (GSO_UDP_L4, 100, NEEDS_CSUM)
    octets = complete(frame, header)[14:]
    packet = IPv4.parse(octets) if octets[0] >> 4 == 4 else IPv6.parse(octets)
    datagram = Udp.parse(packet.payload, packet.source, packet.destination)
    assert datagram.payload == b"".join(bytes([number]) * 100 for number in range(64))


def test_no_more_than_64_datagrams_and_one_datagrams_octets() -> None:
    assert [header.gso_size for header, _ in read([message4(b"x", number + 1) for number in range(65)])] == [1, 0]
    assert [len(frame) for _, frame in read([message6(bytes(1400)) for _ in range(50)])] == [62 + 46 * 1400, 62 + 4 * 1400]


def test_an_identification_that_stays_the_same_is_joined_where_fragments_are_forbidden() -> None:
    assert len(read([message4(b"x", 0x1234) for _ in range(3)])) == 1
    assert len(read([message4(b"x", 0x1234, dont_fragment=False) for _ in range(3)])) == 3
    assert len(read([message4(b"x", number + 7, dont_fragment=False) for number in range(3)])) == 1


FIRST = message4(b"payload", 7)


@pytest.mark.parametrize(
    "second",
    [
        message4(b"payload", 9),
        message4(b"payload", 8, port=10),
        message4(b"payload", 8, ttl=63),
        message4(b"payload", 8, dont_fragment=False),
        message4(b"short", 8),
        message4(b"a longer one", 8),
        message4(b"", 8),
        message6(b"payload"),
        (VnetHeader(DATA_VALID), message4(b"payload", 8)[1]),
        (VnetHeader(), message4(b"payload", 8)[1]),
        (REQUESTS[4], message4(b"payload", 8)[1] + b"\0"),
        (REQUESTS[4], message4(b"payload", 8)[1][:45]),
        (VnetHeader(NEEDS_CSUM, GSO_TCPV4, 54, 1000, 34, 16), bytes(9000)),
        (VnetHeader(), b""),
    ],
)
def test_what_differs_stands_alone(second: Message) -> None:
    assert read([FIRST, second]) == [FIRST, second]


def changed(at: int, octets: bytes) -> Message:
    frame = FIRST[1]
    return FIRST[0], frame[:at] + octets + frame[at + len(octets) :]


@pytest.mark.parametrize(
    "message",
    [
        changed(12, b"\x81\x00"),
        changed(14, b"\x46"),
        changed(16, b"\x00\x24"),
        changed(20, b"\x20\x00"),
        changed(23, b"\x06"),
        changed(24, b"\0\0"),
        changed(38, b"\x00\x08"),
        message4(b"", 7),
        message4(b"payload", 7, more_fragments=True, dont_fragment=False),
    ],
)
def test_what_is_unusual_begins_no_train(message: Message) -> None:
    joiner = Joiner()
    octets = message[0].pack() + message[1]
    joiner.memory[: len(octets)] = octets
    assert not joiner.opens(len(octets), EVERYTHING)
