"""The options that a guest's DHCP client reads, wherever they are in a message (RFC 2131 4.1, RFC 2132)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from netemu.guest.protocol import Lease
from netemu.wire.dhcpv4 import DhcpMessageType, DhcpOption, Dhcpv4, pack_addresses
from pytest_netemu.suites import judges
from pytest_netemu.wire import Wire
from pytest_netemu.wire_dhcp import DhcpServer

pytestmark = pytest.mark.netemu_requires("dhcp4")

_SNAME, _FILE, _OPTIONS = slice(44, 108), slice(108, 236), 240  # where a message's fields are
_PAD, _END = b"\x00", b"\xff"
_FIRST, _SECOND, _THIRD = (IPv4Address(f"10.0.2.{number}") for number in (3, 4, 5))


def _tlv(code: int, value: bytes) -> bytes:
    return bytes((code, len(value))) + value


def _dns(*addresses: IPv4Address) -> bytes:
    return _tlv(DhcpOption.DOMAIN_NAME_SERVER, pack_addresses(*addresses))


def _edited(message: Dhcpv4, edit: Callable[[bytes], bytes], *, file: bytes = b"", sname: bytes = b"") -> bytes:
    """The octets of `message` with its options, which `edit` gets without the end option, and the two fields written anew."""
    octets = bytearray(message.pack())
    octets[_FILE], octets[_SNAME] = file.ljust(128, _PAD), sname.ljust(64, _PAD)
    options = bytes(octets[_OPTIONS:]).rstrip(_PAD).removesuffix(_END)
    return bytes(octets[:_OPTIONS]) + edit(options).ljust(60, _PAD)


def _lease(wire: Wire, edit: Callable[[bytes], bytes], *, file: bytes = b"", sname: bytes = b"") -> Lease:
    """What the guest makes of such an OFFER and ACK."""
    server = DhcpServer(wire)
    for kind, said in ((DhcpMessageType.DISCOVER, server.offer), (DhcpMessageType.REQUEST, server.ack)):
        server.replies[kind] = lambda message, said=said: [_edited(said(message), edit, file=file, sname=sname)]  # type: ignore[misc] # bound now
    lease = wire.guest.dhcp4()
    assert lease.address == wire.opposite
    return lease


@judges("rfc2131/2/06")
def test_312_octets_of_options_are_read(netemu_wire: Wire) -> None:
    """The last of them is looked for; the ones in between have numbers for private use."""

    def fill(options: bytes) -> bytes:
        filled = options + _tlv(224, bytes(200))
        rest = 312 - len(_dns(_FIRST)) - len(_END) - len(filled) - 2
        return filled + _tlv(225, bytes(rest)) + _dns(_FIRST) + _END

    assert _lease(netemu_wire, fill).dns == (_FIRST,)


@judges("rfc2131/4.1/13")
def test_parts_of_an_option_are_joined(netemu_wire: Wire) -> None:
    assert _lease(netemu_wire, lambda options: options + _dns(_FIRST) + _dns(_SECOND) + _END).dns == (_FIRST, _SECOND)


@judges("rfc2132/9.3/01")
@pytest.mark.parametrize("overload", [1, 2, 3], ids=["file", "sname", "both"])
def test_options_are_read_where_fields_are_overloaded(netemu_wire: Wire, overload: int) -> None:
    field = _dns(_FIRST) + _END
    fields = {1: {"file": field}, 2: {"sname": field}, 3: {"file": _END, "sname": field}}[overload]
    mark = _tlv(DhcpOption.OPTION_OVERLOAD, bytes((overload,)))
    assert _lease(netemu_wire, lambda options: options + mark + _END, **fields).dns == (_FIRST,)


@judges("rfc2131/4.1/15")
def test_the_file_field_comes_before_the_server_name(netemu_wire: Wire) -> None:
    """Parts of one option, which are joined in the order in which the fields are read."""
    mark = _tlv(DhcpOption.OPTION_OVERLOAD, b"\x03")
    options = _lease(
        netemu_wire, lambda options: options + mark + _dns(_FIRST) + _END, file=_dns(_SECOND) + _END, sname=_dns(_THIRD) + _END
    )
    assert options.dns == (_FIRST, _SECOND, _THIRD)


@judges("rfc2131/4.1/19")
def test_an_option_that_does_not_end_is_not_read(netemu_wire: Wire) -> None:
    """The message may be ignored or read up to it; a good one comes behind."""
    server = DhcpServer(netemu_wire)
    endless = bytes((DhcpOption.DOMAIN_NAME_SERVER, 248)) + pack_addresses(*[_FIRST] * 14)
    server.replies[DhcpMessageType.REQUEST] = lambda message: [
        _edited(server.ack(message), lambda options: options + endless),
        server.ack(message),
    ]
    assert netemu_wire.guest.dhcp4().dns == ()


@judges("rfc2132/2/01")
def test_zeros_behind_text_are_not_text(netemu_wire: Wire) -> None:
    domain = _tlv(DhcpOption.DOMAIN_NAME, b"example.org\0\0")
    assert _lease(netemu_wire, lambda options: options + domain + _END).domain == "example.org"


@judges("rfc2132/3.1/01")
def test_pads_are_passed_over(netemu_wire: Wire) -> None:
    assert _lease(netemu_wire, lambda options: _PAD + options + _PAD * 3 + _dns(_FIRST) + _END).dns == (_FIRST,)


@judges("rfc2132/3.2/01")
def test_nothing_is_read_behind_the_end(netemu_wire: Wire) -> None:
    assert _lease(netemu_wire, lambda options: options + _dns(_FIRST) + _END + _dns(_SECOND) + _END).dns == (_FIRST,)
