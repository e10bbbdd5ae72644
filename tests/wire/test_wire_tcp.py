from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from wire_strategies import DESTINATION, SOURCE

from netemu.errors import LocalError
from netemu.wire.checksum import pseudo_header_sum
from netemu.wire.errors import WireError
from netemu.wire.tcp import ACK, CWR, ECE, EMPTY_OPTIONS, FIN, PSH, RST, SYN, URG, Tcp, TcpOptions, flags_text

SEGMENT = Tcp(49152, 80, 0x01020304, 0x05060708, ACK | PSH, 65535, b"GET /")


def test_a_segment_octet_by_octet():
    octets = SEGMENT.pack(SOURCE, DESTINATION)
    assert octets[:16] == bytes.fromhex("c000 0050 01020304 05060708 50 18 ffff")
    assert octets[18:] == bytes.fromhex("0000") + b"GET /"
    assert Tcp.parse(octets, SOURCE, DESTINATION) == SEGMENT


def test_a_wrong_checksum_is_noticed_only_with_addresses():
    octets = SEGMENT.pack(SOURCE, DESTINATION)
    with pytest.raises(WireError) as caught:
        Tcp.parse(octets, SOURCE, IPv4Address("10.0.2.3"))
    assert (caught.value.field, caught.value.offset) == ("tcp.checksum", 16)
    assert Tcp.parse(octets) == SEGMENT


def test_a_partial_checksum_is_the_pseudo_headers_sum():
    octets = SEGMENT.pack_partial(SOURCE, DESTINATION)
    assert octets[16:18] == pseudo_header_sum(SOURCE, DESTINATION, 6, len(octets)).to_bytes(2, "big")
    assert Tcp.parse(octets) == SEGMENT
    whole = SEGMENT.pack(SOURCE, DESTINATION)
    assert octets[:16] + octets[18:] == whole[:16] + whole[18:]


@pytest.mark.parametrize("words", [0, 4, 7])
def test_the_data_offset_must_fit_header_and_data(words):
    octets = bytearray(Tcp(1, 2, 3, 4, ACK, 5).pack(SOURCE, DESTINATION))
    octets[12] = words << 4
    with pytest.raises(WireError) as caught:
        Tcp.parse(octets)
    assert (caught.value.field, caught.value.offset) == ("tcp.data_offset", 12)


def test_reserved_bits_are_ignored():
    octets = bytearray(SEGMENT.pack(SOURCE, DESTINATION))
    octets[12] |= 0xF
    assert Tcp.parse(octets) == SEGMENT


@pytest.mark.parametrize(
    ("flags", "length"), [(ACK, 5), (SYN, 6), (FIN | ACK, 6), (SYN | FIN, 7), (RST | URG | PSH | ECE | CWR, 5)]
)
def test_syn_and_fin_occupy_sequence_numbers(flags, length):
    assert Tcp(1, 2, 3, 4, flags, 5, b"12345").segment_length == length


@pytest.mark.parametrize(
    ("flags", "text"), [(0, "-"), (SYN, "SYN"), (SYN | ACK, "SYN,ACK"), (255, "SYN,FIN,RST,PSH,ACK,URG,ECE,CWR")]
)
def test_flags_have_names(flags, text):
    assert flags_text(flags) == text


def test_a_segment_without_options_shares_the_empty_ones():
    assert Tcp.parse(SEGMENT.pack(SOURCE, DESTINATION)).options is EMPTY_OPTIONS


SYN_OPTIONS = TcpOptions(mss=1460, window_scale=7, sack_permitted=True, timestamps=(1, 2))


@pytest.mark.parametrize(
    ("options", "octets"),
    [
        (TcpOptions(), ""),
        (TcpOptions(mss=1460), "020405b4"),
        (TcpOptions(sack_permitted=True), "01010402"),
        (TcpOptions(window_scale=7), "01030307"),
        (TcpOptions(timestamps=(1, 2)), "0101080a 00000001 00000002"),
        (SYN_OPTIONS, "020405b4 0402080a 00000001 00000002 01030307"),
        (TcpOptions(sack=((1, 2),)), "0101050a 00000001 00000002"),
        (TcpOptions(unknown=((254, b"\xf9\x89\x01"),)), "fe05f98901 000000"),
    ],
)
def test_options_octet_by_octet(options, octets):
    assert options.pack() == bytes.fromhex(octets)
    assert TcpOptions.parse(bytes.fromhex(octets)) == options


@pytest.mark.parametrize(
    ("octets", "options"),
    [
        ("080a0000000100000002 0000", TcpOptions(timestamps=(1, 2))),
        ("01010101", TcpOptions()),
        ("00 020405", TcpOptions()),  # behind the end of the list anything may stand
        ("020405b4 02040218", TcpOptions(mss=536)),  # the last one counts
        ("1e020101 020405b4", TcpOptions(mss=1460, unknown=((30, b""),))),
        ("0101051a 00000001000000020000000300000004 0000000500000006", TcpOptions(sack=((1, 2), (3, 4), (5, 6)))),
    ],
)
def test_options_in_other_forms(octets, options):
    assert TcpOptions.parse(bytes.fromhex(octets)) == options


@pytest.mark.parametrize(
    ("octets", "offset"),
    [
        ("02", 20),  # no length
        ("0101 fe", 22),
        ("0200 05b4", 20),  # RFC 9293, MUST-7: a length of zero
        ("fe01 0000", 20),
        ("0101 0204 05", 22),  # past the header
        ("fe05 0000", 20),
        ("0203 0501", 20),  # a length that its kind does not have
        ("0205 05b400", 20),
        ("0302 0101", 20),
        ("0403 0001", 20),
        ("0809 00000001000000", 20),
        ("0502 0101", 20),  # a SACK without a block
        ("0509 00000000000000", 20),
    ],
)
def test_an_illegal_option_length_is_a_wire_error(octets, offset):
    with pytest.raises(WireError) as caught:
        TcpOptions.parse(bytes.fromhex(octets))
    assert (caught.value.field, caught.value.offset) == ("tcp.options", offset)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (TcpOptions(mss=65536), r"TcpOptions\.mss is 65536: give an integer from 0 to 65535"),
        (TcpOptions(window_scale=256), r"TcpOptions\.window_scale is 256"),
        (TcpOptions(timestamps=(0, 1 << 32)), "cannot be packed"),
        (TcpOptions(sack=((0, 1),) * 5), "40 is the most"),
        (TcpOptions(sack=((0, 1),) * 50), "40 is the most"),
        (TcpOptions(timestamps=(0, 0), sack=((0, 1),) * 4), "40 is the most"),
        (TcpOptions(unknown=((2, b"\5\xb4"),)), "kind 2"),
        (TcpOptions(unknown=((256, b""),)), "kind 256"),
        (TcpOptions(unknown=((99, bytes(39)),)), "kind 99"),
    ],
)
def test_pack_refuses_what_the_header_cannot_hold(options, words):
    with pytest.raises(LocalError, match=words):
        options.pack()


def test_as_many_options_as_fit():
    options = TcpOptions(timestamps=(1, 2), sack=((1, 2), (3, 4), (5, 6)))
    assert len(options.pack()) == 40
    segment = Tcp(1, 2, 3, 4, ACK, 5, b"data", options=options)
    assert Tcp.parse(segment.pack(SOURCE, DESTINATION), SOURCE, DESTINATION) == segment
