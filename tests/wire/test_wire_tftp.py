"""TFTP: the packets of RFC 1350 and 2347 on literal octets, and what is refused."""

from __future__ import annotations

import pytest

from netemu.errors import LocalError
from netemu.wire import tftp
from netemu.wire.errors import WireError
from netemu.wire.tftp import Acknowledgment, Data, Error, ErrorCode, Opcode, OptionAcknowledgment, Request


@pytest.mark.parametrize(
    ("packet", "octets"),
    [
        (Request(Opcode.RRQ, "pxelinux.0"), b"\0\1pxelinux.0\0octet\0"),
        (Request(Opcode.WRQ, "a/b", "netascii"), b"\0\2a/b\0netascii\0"),
        (Request(Opcode.RRQ, ""), b"\0\1\0octet\0"),
        (
            Request(Opcode.RRQ, "foobar", "octet", {"blksize": "1428", "tsize": "0", "windowsize": "4"}),
            b"\0\1foobar\0octet\0blksize\x001428\0tsize\x000\0windowsize\x004\0",
        ),
        (Data(1, b"abc"), b"\0\3\0\1abc"),
        (Data(65535, b""), b"\0\3\xff\xff"),
        (Acknowledgment(513), b"\0\4\2\1"),
        (Error(ErrorCode.FILE_NOT_FOUND, "no such file"), b"\0\5\0\1no such file\0"),
        (Error(99), b"\0\5\0\x63\0"),
        (OptionAcknowledgment({"blksize": "1428"}), b"\0\6blksize\x001428\0"),
        (OptionAcknowledgment({}), b"\0\6"),
    ],
)
def test_each_packet_octet_by_octet(packet, octets):
    assert packet.pack() == octets
    assert tftp.parse(octets) == packet


def test_modes_and_option_names_have_no_case():
    read = tftp.parse(b"\0\1File\0OcTeT\0BlkSize\x00512\0")
    assert read == Request(Opcode.RRQ, "File", "octet", {"blksize": "512"})
    assert Request(Opcode.RRQ, "File", "OCTET", {"BLKSIZE": "512"}).pack() == b"\0\1File\0octet\0blksize\x00512\0"


def test_a_name_that_is_not_utf_8_comes_back_as_it_was():
    octets = b"\0\1f\xff\xe9\0octet\0"
    assert tftp.parse(octets).pack() == octets
    assert tftp.parse("\0\1é\0octet\0".encode()) == Request(Opcode.RRQ, "é")


@pytest.mark.parametrize(
    ("octets", "field", "offset"),
    [
        (b"", "tftp", 0),
        (b"\0", "tftp", 1),
        (b"\0\0", "tftp.opcode", 0),
        (b"\0\7\0\0", "tftp.opcode", 0),
        (b"\1\1a\0octet\0", "tftp.opcode", 0),
        (b"\0\3\0", "tftp", 3),
        (b"\0\4\0", "tftp", 3),
        (b"\0\5\0", "tftp", 3),
        (b"\0\5\0\1no end", "tftp.message", 4),
        (b"\0\1file", "tftp.filename", 2),
        (b"\0\1file\0octet", "tftp.mode", 7),
        (b"\0\1f\0octet\0blksize", "tftp.option", 10),
        (b"\0\1f\0octet\0blksize\x00512", "tftp.option_value", 18),
        (b"\0\6\x00512\0", "tftp.option", 2),
        (b"\0\6a\x001\0A\x002\0", "tftp.option", 6),
    ],
)
def test_what_is_refused(octets, field, offset):
    with pytest.raises(WireError) as caught:
        tftp.parse(octets)
    assert (caught.value.field, caught.value.offset) == (field, offset)


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (Request(Opcode.DATA, "f"), r"Opcode\.RRQ or Opcode\.WRQ"),
        (Request(Opcode.RRQ, "a\0b"), "has a zero in it"),
        (Request(Opcode.RRQ, "\ud800"), "cannot be sent"),
        (OptionAcknowledgment({"": "1"}), "without a name"),
        (Data(65536, b""), r"Data\.block is 65536"),
        (Acknowledgment(-1), r"Acknowledgment\.block is -1"),
        (Error(65536), r"Error\.code is 65536"),
    ],
)
def test_pack_refuses_what_a_packet_cannot_hold(packet, words):
    with pytest.raises(LocalError, match=words):
        packet.pack()
