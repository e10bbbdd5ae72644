from __future__ import annotations

import contextlib
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_strategies import addresses, names, networks

from netemu.errors import LocalError
from netemu.wire.address import MacAddress
from netemu.wire.dhcpv4 import (
    BOOTREQUEST,
    DhcpMessageType,
    DhcpOption,
    Dhcpv4,
    pack_addresses,
    pack_classless_routes,
    pack_domain_search,
    parse_classless_routes,
    parse_domain_search,
)
from netemu.wire.errors import WireError

MAC = MacAddress("52:54:00:12:34:56")
COOKIE = bytes((99, 130, 83, 99))
DISCOVER = Dhcpv4(BOOTREQUEST, 0x12345678, MAC, broadcast=True, secs=3, options={53: b"\1", 55: b"\1\3\6"})


def message(options: bytes, *, cookie: bytes = COOKIE, sname: bytes = b"", file: bytes = b"") -> bytes:
    """A request written octet by octet, with these fields."""
    fixed = bytes((1, 1, 6, 0)) + bytes(24) + MAC + bytes(10)
    return fixed + sname.ljust(64, b"\0") + file.ljust(128, b"\0") + cookie + options


def test_a_discover_octet_by_octet():
    octets = DISCOVER.pack()
    assert octets[:12] == bytes.fromhex("01 01 06 00 12345678 0003 8000")
    assert octets[12:28] == bytes(16)
    assert octets[28:44] == MAC + bytes(10)
    assert octets[44:236] == bytes(192)
    assert octets[236:] == bytes.fromhex("63825363 350101 3703010306 ff") + bytes(300 - 236 - 13)
    assert Dhcpv4.parse(octets) == DISCOVER


def test_a_message_has_at_least_300_octets():
    assert len(Dhcpv4(1, 0, MAC).pack()) == 300
    assert len(replace(DISCOVER, options={43: bytes(200)}).pack()) == 236 + 4 + 202 + 1


def test_options_keep_their_order():
    options = {54: bytes(4), 53: b"\2", 1: bytes(4)}
    assert list(Dhcpv4.parse(replace(DISCOVER, options=options).pack()).options) == [54, 53, 1]


def test_typed_options():
    ack = replace(
        DISCOVER,
        options={
            DhcpOption.DHCP_MESSAGE_TYPE: b"\5",
            DhcpOption.SERVER_IDENTIFIER: pack_addresses(IPv4Address("10.0.2.2")),
            DhcpOption.REQUESTED_IP_ADDRESS: pack_addresses(IPv4Address("10.0.2.15")),
            DhcpOption.IP_ADDRESS_LEASE_TIME: (86400).to_bytes(4, "big"),
            DhcpOption.DOMAIN_NAME_SERVER: pack_addresses(IPv4Address("10.0.2.3"), IPv4Address("10.0.2.4")),
        },
    )
    assert ack.message_type is DhcpMessageType.ACK
    assert ack.server_identifier == IPv4Address("10.0.2.2")
    assert ack.requested_address == IPv4Address("10.0.2.15")
    assert ack.lease_time == 86400
    assert ack.addresses(DhcpOption.DOMAIN_NAME_SERVER) == (IPv4Address("10.0.2.3"), IPv4Address("10.0.2.4"))


def test_missing_or_odd_options_read_as_nothing():
    bare = replace(DISCOVER, options={DhcpOption.ROUTER: b"\x0a\0\2", DhcpOption.HOST_NAME: b"abc"})
    assert bare.message_type is None
    assert bare.server_identifier is None
    assert bare.requested_address is None
    assert bare.lease_time is None
    assert bare.addresses(DhcpOption.ROUTER) == ()
    assert bare.addresses(DhcpOption.DOMAIN_NAME_SERVER) == ()
    assert bare.u32(DhcpOption.HOST_NAME) is None


@pytest.mark.parametrize("number", [0, 9, 255])
def test_a_message_type_that_rfc_2132_does_not_have(number):
    assert replace(DISCOVER, options={53: bytes((number,))}).message_type is None


def test_a_message_without_the_cookie_is_bootp():
    for octets in (message(b"\x35\1\1\xff", cookie=bytes(4)), message(b"", cookie=b"")):
        parsed = Dhcpv4.parse(octets)
        assert parsed.options == {}
        assert parsed.message_type is None
        assert parsed.chaddr == MAC


@pytest.mark.parametrize(("offset", "value", "field"), [(1, 6, "dhcpv4.htype"), (2, 16, "dhcpv4.hlen")])
def test_only_ethernet_is_known(offset, value, field):
    octets = bytearray(message(b"\xff"))
    octets[offset] = value
    with pytest.raises(WireError) as caught:
        Dhcpv4.parse(octets)
    assert (caught.value.field, caught.value.offset) == (field, offset)


def test_pads_are_skipped_and_the_end_ends():
    assert Dhcpv4.parse(message(b"\0\0\x35\1\1\0\x0c\1a\xff\x0c\1b")).options == {53: b"\1", 12: b"a"}


def test_a_forgotten_end_is_forgiven():
    assert Dhcpv4.parse(message(b"\x35\1\1")).options == {53: b"\1"}


@pytest.mark.parametrize(("options", "offset"), [(b"\x35\2\1", 240), (b"\x35\1\1\x0c\5abcd", 243), (b"\x35\1", 240)])
def test_an_option_past_the_end_is_a_wire_error(options, offset):
    with pytest.raises(WireError) as caught:
        Dhcpv4.parse(message(options))
    assert (caught.value.field, caught.value.offset) == ("dhcpv4.options", offset)


@pytest.mark.parametrize(
    "options",
    [b"\x35\2\1\1", b"\x35\0", b"\x36\3\1\2\3", b"\x33\5\0\0\0\0\0", b"\x32\0", b"\x01\3\1\2\3", b"\x39\1\1", b"\x50\1\0"],
)
def test_a_fixed_length_is_checked(options):
    with pytest.raises(WireError, match="octets, not"):
        Dhcpv4.parse(message(options + b"\xff"))


def test_a_text_ends_at_its_first_zero():
    parsed = Dhcpv4.parse(message(b"\xff", sname=b"server\0junk", file=b"f" * 128))
    assert (parsed.sname, parsed.file) == (b"server", b"f" * 128)


def test_long_options_are_split_and_joined():
    # RFC 3396: 300 octets go as 255 and 45.
    value = bytes(range(250)) + bytes(50)
    octets = replace(DISCOVER, options={121: value}).pack()
    assert octets[240:242] == bytes((121, 255))
    assert octets[240 + 257 : 240 + 259] == bytes((121, 45))
    assert Dhcpv4.parse(octets).options == {121: value}


def test_overloaded_fields_are_read_in_order():
    # RFC 3396, 5: the options field, then file, then sname; the same option goes on from one to the next.
    octets = message(b"\x34\1\3\x0c\2ab\xff", file=b"\x0c\2cd\x0f\1x\xff\x0c\1!", sname=b"\x0c\2ef\xff")
    parsed = Dhcpv4.parse(octets)
    assert parsed.options == {12: b"abcdef", 15: b"x"}
    assert (parsed.sname, parsed.file) == (b"", b"")


@pytest.mark.parametrize(
    ("overload", "options", "sname", "file"),
    [(1, {12: b"f"}, b"\x0c\1s", b""), (2, {12: b"s"}, b"", b"\x0c\1f"), (3, {12: b"fs"}, b"", b"")],
)
def test_each_overload_names_its_fields(overload, options, sname, file):
    parsed = Dhcpv4.parse(message(bytes((0x34, 1, overload, 0xFF)), sname=b"\x0c\1s", file=b"\x0c\1f"))
    assert (parsed.options, parsed.sname, parsed.file) == (options, sname, file)


@pytest.mark.parametrize("value", [b"\1\0", b"\1\4", b"\2\1\1", b"\0"])
def test_a_senseless_overload_is_a_wire_error(value):
    with pytest.raises(WireError, match="option overload"):
        Dhcpv4.parse(message(b"\x34" + value + b"\xff"))


def test_an_overloaded_field_may_be_malformed_too():
    with pytest.raises(WireError) as caught:
        Dhcpv4.parse(message(b"\x34\1\2\xff", sname=b"\x0c\xffx"))
    assert caught.value.offset == 44


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sname": bytes(1)}, "sname"),
        ({"sname": b"s" * 65}, "at most 64"),
        ({"file": b"f" * 129}, "at most 128"),
        ({"options": {0: b""}}, "from 1 to 254"),
        ({"options": {255: b""}}, "from 1 to 254"),
        ({"options": {52: b"\1"}}, "OPTION_OVERLOAD"),
        ({"secs": 65536}, "secs is 65536"),
    ],
)
def test_pack_refuses_what_the_message_cannot_hold(change, words):
    with pytest.raises(LocalError, match=words):
        replace(DISCOVER, **change).pack()


def test_domain_search_is_compressed_as_in_rfc_3397():
    # RFC 3397, 2.1, its example in one option.
    octets = b"\3eng\5apple\3com\0" + b"\x09marketing\xc0\4"
    assert pack_domain_search(["eng.apple.com", "marketing.apple.com"]) == octets
    assert parse_domain_search(octets) == ("eng.apple.com", "marketing.apple.com")


@settings(max_examples=50, deadline=None)
@given(search=st.lists(names, max_size=5))
def test_domain_search_round_trips(search):
    assert parse_domain_search(pack_domain_search(search)) == tuple(search)


@pytest.mark.parametrize(
    ("destination", "descriptor"),
    # RFC 3442, the table of destination descriptors.
    [
        ("0.0.0.0/0", "00"),
        ("10.0.0.0/8", "080a"),
        ("10.0.0.0/24", "180a0000"),
        ("10.17.0.0/16", "100a11"),
        ("10.27.129.0/24", "180a1b81"),
        ("10.229.0.128/25", "190ae50080"),
        ("10.198.122.47/32", "200ac67a2f"),
    ],
)
def test_destination_descriptors_of_rfc_3442(destination, descriptor):
    route = (IPv4Network(destination), IPv4Address("10.0.2.2"))
    assert pack_classless_routes([route]).hex() == descriptor + "0a000202"
    assert parse_classless_routes(bytes.fromhex(descriptor + "0a000202")) == (route,)


@settings(max_examples=50, deadline=None)
@given(routes=st.lists(st.tuples(networks, addresses), max_size=5))
def test_classless_routes_round_trip(routes):
    assert parse_classless_routes(pack_classless_routes(routes)) == tuple(routes)


@settings(max_examples=200, deadline=None)
@given(octets=st.binary(max_size=60))
def test_random_option_values_are_a_value_or_a_wire_error(octets):
    for parse in (parse_classless_routes, parse_domain_search):
        with contextlib.suppress(WireError):
            parse(octets)


@pytest.mark.parametrize("octets", ["21 0a000000 00 0a000202", "18 0a00", "00 0a0002"])
def test_a_route_that_does_not_fit_is_a_wire_error(octets):
    with pytest.raises(WireError):
        parse_classless_routes(bytes.fromhex(octets))
