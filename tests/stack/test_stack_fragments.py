from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import HostError, LocalError
from netemu.net.clock import SECOND
from netemu.stack.fragments import MAX_DATAGRAMS, MAX_RANGES, REASSEMBLY_TIMEOUT, Reassembler, fragment
from netemu.wire.ipv4 import IPv4

A, B = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")


def datagram(size: int = 100, **fields) -> IPv4:
    fields.setdefault("identification", 7)
    return IPv4(A, B, 17, bytes(index * 7 & 0xFF for index in range(size)), **fields)


def piece(offset: int, data: bytes, *, more: bool, **fields) -> IPv4:
    fields.setdefault("identification", 7)
    return IPv4(A, B, 17, data, fragment_offset=offset, more_fragments=more, **fields)


def put_together(pieces, reassembler: Reassembler | None = None) -> list[IPv4]:
    reassembler = Reassembler() if reassembler is None else reassembler
    return [whole for fragment in pieces if (whole := reassembler.receive(fragment, 0)) is not None]


# Taking apart.


def test_what_fits_is_left_alone():
    packet = datagram(80)
    assert fragment(packet, 100) == [packet]


@pytest.mark.parametrize("mtu", [68, 100, 576, 1500])
def test_fragments_fit_and_carry_everything(mtu):
    packet = datagram(4000, dscp=10, ttl=3)
    pieces = fragment(packet, mtu)
    assert len(pieces) > 1
    assert all(one.header_length + len(one.payload) <= mtu for one in pieces)
    assert all(len(one.payload) % 8 == 0 and one.more_fragments for one in pieces[:-1])
    assert not pieces[-1].more_fragments
    assert {(one.dscp, one.ttl, one.identification) for one in pieces} == {(10, 3, 7)}
    assert put_together(pieces) == [packet]


def test_a_fragment_is_cut_again():
    pieces = [smaller for larger in fragment(datagram(4000), 1500) for smaller in fragment(larger, 576)]
    assert put_together(pieces) == [datagram(4000)]


def test_dont_fragment_is_an_error():
    with pytest.raises(HostError) as caught:
        fragment(datagram(4000, dont_fragment=True), 1500)
    assert caught.value.errno == errno.EMSGSIZE


def test_an_mtu_too_small_for_anything():
    with pytest.raises(LocalError, match="MTU of 27"):
        fragment(datagram(), 27)


def test_only_copied_options_go_into_every_fragment():
    record_route = bytes((7, 7, 4, 0, 0, 0, 0))
    loose_source_route = bytes((0x83, 7, 4, 10, 0, 0, 9))
    packet = datagram(200, options=b"\1" + record_route + loose_source_route + b"\0")
    first, *others = fragment(packet, 100)
    assert first.options == packet.options
    assert {one.options for one in others} == {loose_source_route + b"\0"}
    assert put_together([first, *others]) == [packet]


def test_malformed_options_end_the_copying():
    packet = datagram(200, options=bytes((0x83, 0, 0x83, 40)))
    assert all(len(one.options) <= 40 for one in fragment(packet, 100))


# Putting together.


def test_what_is_no_fragment_passes():
    assert put_together([datagram()]) == [datagram()]


def test_flows_are_kept_apart():
    reassembler = Reassembler()
    one, two = datagram(100), datagram(100, identification=8)
    pieces = [fragment(one, 68), fragment(two, 68), fragment(replace(one, protocol=1), 68)]
    mixed = [part for parts in zip(*pieces, strict=True) for part in parts]
    assert put_together(mixed, reassembler) == [one, two, replace(one, protocol=1)]
    assert len(reassembler) == 0
    assert reassembler.counters == {"fragments-reassembled": 3}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (piece(8, b"", more=False), "fragments-bad-length"),
        (piece(0, b"", more=True), "fragments-bad-length"),
        (piece(0, bytes(9), more=True), "fragments-bad-length"),
        (piece(65528, bytes(8), more=False), "fragments-oversize"),
        (piece(65520, bytes(8), more=True), "fragments-oversize"),
    ],
)
def test_impossible_fragments_are_counted(bad, reason):
    reassembler = Reassembler()
    assert reassembler.receive(bad, 0) is None
    assert len(reassembler) == 0
    assert reassembler.counters == {reason: 1}


def test_the_largest_datagram():
    packet = datagram(65535 - 20)
    assert put_together(reversed(fragment(packet, 1500))) == [packet]


def test_options_may_make_it_too_large():
    packet = datagram(65535 - 20)
    first, *others = fragment(packet, 1500)
    reassembler = Reassembler()
    assert put_together([*others, replace(first, options=bytes(40))], reassembler) == []
    assert reassembler.counters["fragments-oversize"] == 1


@pytest.mark.parametrize(
    "contradiction",
    [
        [piece(0, b"A" * 16, more=True), piece(8, b"B" * 16, more=False)],  # other octets
        [piece(0, b"A" * 16, more=True), piece(0, b"B" * 16, more=True)],
        [piece(16, b"A" * 8, more=False), piece(24, b"A" * 8, more=False)],  # two ends
        [piece(16, b"A" * 8, more=False), piece(24, b"A" * 8, more=True)],  # more behind the end
        [piece(24, b"A" * 8, more=True), piece(16, b"A" * 8, more=False)],
    ],
)
def test_contradictions_poison_the_datagram(contradiction):
    reassembler = Reassembler()
    whole = [*fragment(datagram(100), 68)]
    assert put_together([*contradiction, *whole], reassembler) == []
    assert reassembler.counters["fragments-contradictory"] == 1 + len(whole)
    assert reassembler.expire(REASSEMBLY_TIMEOUT) == []  # nothing to tell anybody
    assert put_together(whole, reassembler) == [datagram(100)]  # the identification is usable again


def test_a_datagram_full_of_gaps_is_given_up():
    reassembler = Reassembler()
    for number in range(MAX_RANGES):
        reassembler.receive(piece(16 * number, bytes(8), more=True), 0)
    assert not reassembler.counters
    reassembler.receive(piece(16 * MAX_RANGES, bytes(8), more=True), 0)
    assert reassembler.counters == {"fragments-contradictory": 1}


def test_congestion_marks_survive():
    first, *others = fragment(datagram(100, ecn=2), 68)
    assert put_together([first, *(replace(one, ecn=3) for one in others)])[0].ecn == 3
    assert put_together([first, *others])[0].ecn == 2


def test_timeout_gives_the_first_fragment():
    reassembler = Reassembler()
    first, second, *_ = fragment(datagram(200), 68)
    reassembler.receive(second, 5)
    assert reassembler.deadline() == 5 + 60 * SECOND
    reassembler.receive(first, 10 * SECOND)
    assert reassembler.deadline() == 5 + 60 * SECOND
    assert reassembler.expire(4 + 60 * SECOND) == []
    assert reassembler.expire(5 + 60 * SECOND) == [first]
    assert reassembler.deadline() is None
    assert len(reassembler) == 0


def test_timeout_without_a_first_fragment_is_silent():
    reassembler = Reassembler()
    reassembler.receive(fragment(datagram(200), 68)[1], 0)
    assert reassembler.expire(60 * SECOND) == []
    assert reassembler.counters == {"fragments-timeout": 1}


def test_too_many_datagrams_push_out_the_oldest():
    reassembler = Reassembler()
    firsts = [fragment(datagram(100, identification=number), 68) for number in range(MAX_DATAGRAMS + 1)]
    for first, *_ in firsts:
        reassembler.receive(first, 0)
    assert len(reassembler) == MAX_DATAGRAMS
    assert reassembler.counters["fragments-evicted"] == 1
    assert put_together(firsts[0][1:], reassembler) == []
    assert put_together(firsts[-1][1:], reassembler) == [datagram(100, identification=MAX_DATAGRAMS)]


@st.composite
def cuttings(draw) -> tuple[IPv4, list[IPv4]]:
    """A datagram, and fragments of it: any cuts, any order, duplicates, overlaps, gaps."""
    packet = datagram(draw(st.integers(1, 200)))
    size = len(packet.payload)
    pieces = []
    for _ in range(draw(st.integers(1, 20))):
        begin = 8 * draw(st.integers(0, (size - 1) // 8))
        end = min(size, begin + 8 * draw(st.integers(1, 25)))
        pieces.append(piece(begin, packet.payload[begin:end], more=end < size))
    return packet, pieces


@settings(max_examples=200, deadline=None)
@given(cuttings())
def test_any_fragments_give_the_datagram_or_nothing(case):
    packet, pieces = case
    covered: set[int] = set()
    reassembler = Reassembler()
    for one in pieces:
        whole = reassembler.receive(one, 0)
        if not one.is_fragment:
            assert whole == one
            continue
        covered |= set(range(one.fragment_offset, one.fragment_offset + len(one.payload)))
        complete = covered == set(range(len(packet.payload)))
        assert whole == (packet if complete else None)
        if complete:
            covered.clear()
    assert not reassembler.counters["fragments-contradictory"]


@settings(max_examples=200, deadline=None)
@given(cuttings(), st.data())
def test_a_changed_octet_never_comes_out_mixed(case, data):
    """Every octet comes from a fragment that was sent; two truths about one place give nothing."""
    packet, pieces = case
    forged = [
        replace(one, payload=bytes((one.payload[0] ^ 1,)) + one.payload[1:]) if data.draw(st.booleans()) else one for one in pieces
    ]
    contradictory = False
    seen: dict[int, int] = {}
    reassembler = Reassembler()
    for one in forged:
        if not one.is_fragment:
            continue
        for place, octet in enumerate(one.payload, one.fragment_offset):
            contradictory |= seen.setdefault(place, octet) != octet
        whole = reassembler.receive(one, 0)
        if whole is not None:
            assert not contradictory
            assert list(whole.payload) == [seen[place] for place in range(len(packet.payload))]
            seen.clear()
    assert bool(reassembler.counters["fragments-contradictory"]) == contradictory
