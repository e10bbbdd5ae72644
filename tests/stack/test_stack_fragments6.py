"""IPv6 fragments: what comes back is what was cut, in any order; and what RFC 8200 4.5, RFC 5722 and RFC 6946 discard."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import LocalError
from netemu.net.clock import SECOND
from netemu.stack.fragments import MAX_DATAGRAMS
from netemu.stack.fragments6 import BadFragmentError, Reassembler6, fragment6, without_fragment_header
from netemu.wire.errors import WireError
from netemu.wire.ipv6 import Extension, Fragment6, IPv6, NextHeader

HERE, THERE = IPv6Address("2001:db8::a"), IPv6Address("2001:db8::b")
PADDING = bytes((1, 4, 0, 0, 0, 0))  # PadN
FOR_HOPS = Extension(NextHeader.HOP_BY_HOP, PADDING)
FOR_DESTINATION = Extension(NextHeader.DESTINATION_OPTIONS, PADDING)


def packet(size: int = 3000, **fields) -> IPv6:
    return IPv6(HERE, THERE, NextHeader.UDP, bytes(index * 7 & 0xFF for index in range(size)), **fields)


def piece(offset: int, payload: bytes, *, more: bool = True, identification: int = 9, **fields) -> IPv6:
    header = Fragment6(offset, more, identification).extension()
    return IPv6(HERE, THERE, NextHeader.UDP, payload, extensions=(header,), **fields)


def together(pieces, now: int = 0) -> list[IPv6 | None]:
    reassembler = Reassembler6()
    return [reassembler.receive(IPv6.parse(each.pack()), now) for each in pieces]


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(1, 9000),
    mtu=st.integers(1280, 2000),
    extensions=st.sampled_from([(), (FOR_HOPS,), (FOR_DESTINATION,), (FOR_HOPS, FOR_DESTINATION)]),
    data=st.data(),
)
def test_what_was_cut_comes_back_in_any_order(size, mtu, extensions, data):
    whole = packet(size, extensions=extensions)
    pieces = fragment6(whole, mtu, 0xFFFFFFFF)
    assert all(len(each.pack()) <= mtu for each in pieces)
    shuffled = data.draw(st.permutations(pieces))
    repeated = data.draw(st.sampled_from(pieces))
    results = together([*shuffled[:-1], *([repeated] if len(pieces) > 1 and repeated is not shuffled[-1] else []), shuffled[-1]])
    assert [found for found in results if found is not None] == [whole]
    assert results[-1] == whole


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3), st.booleans()), max_size=14))
def test_only_pieces_that_fit_make_a_packet(pieces):
    """When a packet comes, the pieces since the one before lie side by side from 0 to its end."""
    reassembler = Reassembler6()
    seen: set[tuple[int, int]] = set()
    for unit, units, more in pieces:
        start, end = unit * 8, (unit + units) * 8
        whole = reassembler.receive(piece(start, bytes(end - start), more=more), 0)
        if start == 0 and not more:  # atomic: it meets no other
            assert whole is not None
            continue
        seen.add((start, end))
        if whole is not None:
            starts, ends = zip(*sorted(seen), strict=True)
            assert starts == (0, *ends[:-1])
            assert len(whole.payload) == ends[-1]
            seen.clear()


def test_headers_for_every_hop_stand_before_the_fragment_header():
    (first, *_) = fragment6(packet(extensions=(FOR_HOPS, FOR_DESTINATION)), 1280, 5)
    kinds = [extension.next_header_type for extension in first.extensions]
    assert kinds == [NextHeader.HOP_BY_HOP, NextHeader.FRAGMENT]
    assert first.next_header == NextHeader.DESTINATION_OPTIONS


def test_a_packet_that_fits_is_not_cut():
    whole = packet(1240)
    assert fragment6(whole, 1280, 1) == [whole]
    assert len(fragment6(packet(1241), 1280, 1)) == 2


def test_nothing_fits_behind_such_headers():
    with pytest.raises(LocalError, match="are the least"):
        fragment6(packet(extensions=(FOR_HOPS,)), 60, 1)


def test_an_atomic_fragment_is_whole_and_meets_no_other():
    atomic = packet(8, extensions=(Fragment6(0, False, 9).extension(),))
    reassembler = Reassembler6()
    assert reassembler.receive(piece(0, bytes(8)), 0) is None
    assert reassembler.receive(atomic, 0) == packet(8)
    assert reassembler.receive(piece(8, b"end", more=False), 0) == replace(packet(0), payload=bytes(8) + b"end")


def test_an_overlap_discards_the_packet_and_its_later_fragments():
    reassembler = Reassembler6()
    for each in (piece(0, bytes(16)), piece(8, bytes(16)), piece(16, b"end", more=False), piece(0, bytes(16))):
        assert reassembler.receive(each, 0) is None
    assert reassembler.counters["fragments-contradictory"] == 3
    assert reassembler.expire(60 * SECOND) == []  # no error about what was poisoned
    assert reassembler.receive(piece(0, bytes(8)), 60 * SECOND) is None
    assert reassembler.receive(piece(8, b"end", more=False), 60 * SECOND) is not None


def test_the_same_range_with_other_octets_is_an_overlap():
    reassembler = Reassembler6()
    for each in (piece(0, b"12345678"), piece(0, b"12345679"), piece(8, b"end", more=False)):
        assert reassembler.receive(each, 0) is None


def test_two_different_ends_contradict_each_other():
    assert together([piece(8, b"end", more=False), piece(8, b"later", more=False), piece(0, bytes(8))]) == [None] * 3


@pytest.mark.parametrize(
    ("bad", "pointer"),
    [
        (piece(0, bytes(9)), 4),
        (piece(65_528, bytes(16)), 42),
        (replace(piece(65_528, bytes(16)), extensions=(FOR_HOPS, *piece(65_528, b"").extensions)), 50),
    ],
)
def test_what_is_answered_with_a_parameter_problem(bad, pointer):
    with pytest.raises(BadFragmentError) as caught:
        Reassembler6().receive(bad, 0)
    assert caught.value.offset == pointer


def test_an_empty_fragment_is_dropped():
    reassembler = Reassembler6()
    assert reassembler.receive(piece(8, b"", more=False), 0) is None
    assert (len(reassembler), reassembler.counters) == (0, {"fragments-bad-length": 1})


def test_identification_and_addresses_tell_packets_apart():
    pieces = [piece(0, bytes(8)), piece(8, b"x", more=False, identification=10), replace(piece(8, b"y", more=False), source=THERE)]
    assert together(pieces) == [None] * 3


def test_a_packet_that_stays_incomplete_is_given_up_after_a_minute():
    reassembler = Reassembler6()
    first = piece(0, bytes(8))
    reassembler.receive(first, 5)
    reassembler.receive(piece(8, bytes(8), identification=10), 6)
    assert reassembler.deadline() == 60 * SECOND + 5
    assert reassembler.expire(60 * SECOND + 4) == []
    assert reassembler.expire(60 * SECOND + 6) == [first]  # the other's first fragment never came
    assert reassembler.deadline() is None


def test_the_oldest_makes_room():
    reassembler = Reassembler6()
    for number in range(MAX_DATAGRAMS + 1):
        reassembler.receive(piece(0, bytes(8), identification=number), number)
    assert (len(reassembler), reassembler.counters["fragments-evicted"]) == (MAX_DATAGRAMS, 1)


def test_congestion_marks_survive():
    marked = piece(0, bytes(8), traffic_class=0b01), piece(8, b"x", more=False, traffic_class=0b11)
    found = together(marked)[-1]
    assert found is not None
    assert found.traffic_class == 0b11


def test_a_chain_that_is_wrong_behind_the_fragments_is_a_wire_error():
    header = Fragment6(0, False, 1).extension()
    with pytest.raises(WireError):
        without_fragment_header(IPv6(HERE, THERE, NextHeader.DESTINATION_OPTIONS, b"\x11\x09", extensions=(header,)))
