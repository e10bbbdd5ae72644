"""DHCPv6: messages and options on literal octets, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from netemu.errors import LocalError
from netemu.wire.address import MacAddress
from netemu.wire.dhcpv6 import (
    Dhcpv6,
    Dhcpv6MessageType,
    Dhcpv6Option,
    Dhcpv6StatusCode,
    IaAddress,
    IaNa,
    Status,
    duid_ll,
    duid_llt,
    pack_addresses,
    pack_domain_list,
    pack_numbers,
)
from netemu.wire.errors import WireError

MAC = MacAddress("52:54:00:12:34:56")
ADDRESS = IPv6Address("fec0::15")
ADDRESS_OCTETS = "fec00000000000000000000000000015"
SOLICIT = Dhcpv6(
    Dhcpv6MessageType.SOLICIT,
    0xABCDEF,
    (
        (Dhcpv6Option.CLIENTID, duid_ll(MAC)),
        (Dhcpv6Option.IA_NA, IaNa(0x00123456).pack()),
        (Dhcpv6Option.ELAPSED_TIME, b"\0\x64"),
        (Dhcpv6Option.ORO, pack_numbers(23, 24, 59)),
        (Dhcpv6Option.RAPID_COMMIT, b""),
    ),
)
SOLICIT_OCTETS = bytes.fromhex(
    "01 abcdef0001 000a 0003 0001 5254001234560003 000c 00123456 00000000 000000000008 0002 00640006 0006 0017 0018 003b000e 0000"
)
LEASE = IaNa(1, 1800, 2880, (IaAddress(ADDRESS, 3600, 7200, Status(0, "ok")),), Status(Dhcpv6StatusCode.SUCCESS))
LEASE_OCTETS = bytes.fromhex(
    "00000001 00000708 00000b400005 0020" + ADDRESS_OCTETS + "00000e10 00001c20000d 0004 0000 6f6b000d 0002 0000"
)


def message(options: str) -> bytes:
    """A REPLY written octet by octet, with these options."""
    return bytes.fromhex("07 000001" + options)


def test_a_message_octet_by_octet():
    assert SOLICIT.pack() == SOLICIT_OCTETS
    assert Dhcpv6.parse(SOLICIT_OCTETS) == SOLICIT


def test_what_a_client_asks():
    read = Dhcpv6.parse(SOLICIT_OCTETS)
    assert read.client_id == duid_ll(MAC)
    assert read.server_id is None
    assert read.ia_nas == (IaNa(0x00123456),)
    assert read.elapsed_time == 100
    assert read.requested_options == (Dhcpv6Option.DNS_SERVERS, Dhcpv6Option.DOMAIN_LIST, Dhcpv6Option.BOOTFILE_URL)
    assert read.rapid_commit
    assert (read.status, read.preference, read.dns_servers, read.domain_list) == (None, None, (), ())


def test_what_a_server_answers():
    reply = Dhcpv6(
        Dhcpv6MessageType.REPLY,
        1,
        (
            (Dhcpv6Option.SERVERID, b"\0\2server"),
            (Dhcpv6Option.IA_NA, LEASE.pack()),
            (Dhcpv6Option.PREFERENCE, b"\xff"),
            (Dhcpv6Option.STATUS_CODE, Status(Dhcpv6StatusCode.NO_BINDING, "none").pack()),
            (Dhcpv6Option.DNS_SERVERS, pack_addresses(ADDRESS, IPv6Address("::1"))),
            (Dhcpv6Option.DOMAIN_LIST, pack_domain_list(["example.com", "test"])),
        ),
    )
    read = Dhcpv6.parse(reply.pack())
    assert read.server_id == b"\0\2server"
    assert read.ia_nas == (LEASE,)
    assert read.preference == 255
    assert read.status == Status(Dhcpv6StatusCode.NO_BINDING, "none")
    assert read.dns_servers == (ADDRESS, IPv6Address("::1"))
    assert read.domain_list == ("example.com", "test")
    assert not read.rapid_commit


def test_an_identity_octet_by_octet():
    assert LEASE.pack() == LEASE_OCTETS
    assert IaNa.parse(LEASE_OCTETS) == LEASE


def test_other_options_inside_an_identity_are_dropped():
    assert IaNa.parse(LEASE_OCTETS + bytes.fromhex("00c8 0001 78")) == LEASE


def test_an_option_may_come_several_times():
    twice = Dhcpv6(1, 2, ((200, b"a"), (201, b""), (200, b"b")))
    assert twice.values(200) == (b"a", b"b")
    assert twice.value(200) == b"a"
    assert twice.value(202) is None
    assert Dhcpv6.parse(twice.pack()) == twice


def test_duids():
    assert duid_ll(MAC) == bytes.fromhex("0003 0001 525400123456")
    assert duid_llt(MAC, 0x12345678) == bytes.fromhex("0001 0001 12345678 525400123456")
    assert duid_llt(MAC, (1 << 32) + 5) == duid_llt(MAC, 5)  # modulo 2^32 (RFC 8415 11.2)


@pytest.mark.parametrize(
    ("octets", "field", "offset"),
    [
        (b"\1\0\0", "dhcpv6", 3),
        (b"\x0c" + bytes(33), "dhcpv6.msg_type", 0),
        (b"\x0d" + bytes(33), "dhcpv6.msg_type", 0),
        (message("0001 00"), "dhcpv6.options", 4),
        (message("00c8 0002 78"), "dhcpv6.options", 6),
        (message("000e 0000 00c8 0002 78"), "dhcpv6.options", 10),
        (message("0001 0002 0003"), "dhcpv6.options", 8),
        (message("0002 0083" + "00" * 131), "dhcpv6.options", 8),
        (message("0008 0001 00"), "dhcpv6.options", 8),
        (message("000e 0001 00"), "dhcpv6.options", 8),
        (message("0006 0003 001700"), "dhcpv6.options", 8),
        (message("0017 0008 fec0000000000000"), "dhcpv6.options", 8),
        (message("0018 0002 0561"), "dhcpv6.domain_list", 8),
        (message("0018 0005 0161 00 c000"), "dhcpv6.domain_list", 11),
        (message("000d 0001 00"), "dhcpv6.status_code", 8),
        (message("0003 000b" + "00" * 11), "dhcpv6.ia_na", 8),
        (message("0003 000d" + "00" * 13), "dhcpv6.options", 20),
        (message("0003 0011" + "00" * 12 + "000d 0001 00"), "dhcpv6.status_code", 24),
        (message("0003 0027" + "00" * 12 + "0005 0017" + "00" * 23), "dhcpv6.iaaddr", 24),
        (message("0003 002d" + "00" * 12 + "0005 001d" + "00" * 24 + "000d 0001 00"), "dhcpv6.status_code", 52),
    ],
)
def test_what_is_refused(octets, field, offset):
    with pytest.raises(WireError) as caught:
        Dhcpv6.parse(octets)
    assert (caught.value.field, caught.value.offset) == (field, offset)


def test_options_inside_options_have_no_depth():
    inner = b""
    for _ in range(2000):
        inner = (3).to_bytes(2, "big") + (len(inner) + 12).to_bytes(2, "big") + bytes(12) + inner
    nested = Dhcpv6.parse(b"\1\0\0\0" + inner)
    assert nested.ia_nas == (IaNa(0),)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"message_type": 256}, r"Dhcpv6\.message_type is 256"),
        ({"transaction_id": 1 << 24}, "from 0 to 16777215"),
        ({"options": ((65536, b""),)}, "at most 65,535"),
        ({"options": ((1, bytes(65536)),)}, "at most 65,535"),
    ],
)
def test_pack_refuses_what_a_message_cannot_hold(change, words):
    with pytest.raises(LocalError, match=words):
        replace(SOLICIT, **change).pack()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (IaNa(1 << 32), r"IaNa\.iaid"),
        (IaNa(0, t2=-1), r"IaNa\.t2"),
        (IaAddress(ADDRESS, -1, 0), r"IaAddress\.preferred_lifetime"),
        (IaNa(0, addresses=(IaAddress(ADDRESS, 0, 1 << 32),)), r"IaAddress\.valid_lifetime"),
        (Status(1 << 16), r"Status\.code"),
    ],
)
def test_an_option_refuses_what_it_cannot_hold(value, words):
    with pytest.raises(LocalError, match=words):
        value.pack()


def test_the_largest_numbers():
    largest = Dhcpv6(255, 0xFFFFFF, ((65535, bytes(65535)),))
    assert Dhcpv6.parse(largest.pack()) == largest


def test_the_longest_duid():
    longest = Dhcpv6(1, 0, ((Dhcpv6Option.SERVERID, bytes(130)), (Dhcpv6Option.UNICAST, ADDRESS.packed)))
    assert Dhcpv6.parse(longest.pack()) == longest


def test_a_code_out_of_range_is_a_local_error():
    with pytest.raises(LocalError, match="from 0 to 65535"):
        pack_numbers(23, 65536)
