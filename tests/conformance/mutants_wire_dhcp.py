"""Mutants of a guest's DHCP client."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from mutant_parts import (
    DECLINE,
    DISCOVER,
    ELSEWHERE,
    EVERYBODY,
    GATEWAY,
    GRANT,
    GUEST,
    NAK,
    NOWHERE,
    OFFER,
    OTHER_MAC,
    REQUEST,
    dhcp_kind,
    patched,
    with_options,
)
from mutants_dhcp import DHCP_CLIENT, requests_with
from mutation import TRANSPORT, Mutant, change, changed, drop, octets

import netemu.stack.dhcp_client as dhcp_client
import netemu.stack.dhcp_messages as dhcp_messages
import netemu.wire.dhcpv4 as dhcpv4
from netemu.net.clock import SECOND
from netemu.stack.dhcp_client import DhcpClient, DhcpState
from netemu.wire.address import BROADCAST_MAC
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.dhcpv4 import BOOTREPLY, DhcpMessageType, DhcpOption, Dhcpv4
from netemu.wire.dhcpv4_options import read_options
from netemu.wire.errors import WireError
from netemu.wire.ether import Ethernet
from netemu.wire.ipv4 import IPv4
from netemu.wire.udp import Udp
from pytest_netemu.packet import Packet

_MESSAGE = TRANSPORT + 8  # where the message begins in a frame
_COOKIE = slice(_MESSAGE + 236, _MESSAGE + 240)


def hears(edit: Callable[[DhcpClient, Dhcpv4, int], Dhcpv4]) -> Callable[[pytest.MonkeyPatch], None]:
    """The client hears something else than what was said."""
    usual = DhcpClient.receive

    def receive(client: DhcpClient, payload: bytes, now: int) -> None:
        with suppress(WireError):
            payload = edit(client, Dhcpv4.parse(payload), now).pack()
        usual(client, payload, now)

    return patched(DhcpClient, "receive", receive)


def _retyped(message: Dhcpv4, kind: DhcpMessageType, **fields: Any) -> Dhcpv4:
    lease = {DhcpOption.IP_ADDRESS_LEASE_TIME: (3600).to_bytes(4)}
    return replace(message, options=message.options | lease | {DhcpOption.DHCP_MESSAGE_TYPE: bytes((kind,))}, **fields)


def _grant_is_offer(client: DhcpClient, message: Dhcpv4, now: int) -> Dhcpv4:
    del now
    early = client.state is DhcpState.SELECTING and message.message_type == GRANT
    return _retyped(message, OFFER) if early else message


def _nak_is_grant(client: DhcpClient, message: Dhcpv4, now: int) -> Dhcpv4:
    del now
    remembered = client._candidate if client.state is DhcpState.REBOOTING and message.message_type == NAK else None
    return _retyped(message, GRANT, yiaddr=remembered.address) if remembered else message


def _begins_now(client: DhcpClient, message: Dhcpv4, now: int) -> Dhcpv4:
    client._requested_at = now
    return message


def _part_of_lease(option: DhcpOption, numerator: int) -> Callable[[DhcpClient, Dhcpv4, int], Dhcpv4]:
    """T1 or T2 is so many sixteenths of the lease."""

    def edit(client: DhcpClient, message: Dhcpv4, now: int) -> Dhcpv4:
        del client, now
        value = ((message.lease_time or 0) * numerator // 16).to_bytes(4)
        return replace(message, options=message.options | {option: value})

    return edit


def _one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = DhcpClient.__init__
    monkeypatch.setattr(DhcpClient, "__init__", lambda self, mac, getrandbits, *more: usual(self, mac, lambda bits: 7, *more))


def _lease_with(**fields: Callable[[Any], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """What a message gives is understood differently."""
    usual = dhcp_messages.lease_from

    def lease_from(message: Dhcpv4) -> Any:
        lease = usual(message)
        return replace(lease, **{name: value(lease) for name, value in fields.items()})

    return patched(dhcp_client, "lease_from", lease_from)


def _is_dhcp(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[23] == 17 and {frame[TRANSPORT + 1], frame[TRANSPORT + 3]} == {67, 68}


def _edit(edit: Callable[[bytearray], None]) -> Any:
    """DHCP messages are edited in place, and have no checksum."""

    def unsummed(frame: bytearray) -> None:
        edit(frame)
        frame[TRANSPORT + 6 : TRANSPORT + 8] = bytes(2)

    return octets(_is_dhcp, unsummed)


def _any_cookie(frame: bytearray) -> None:
    frame[_COOKIE] = bytes((99, 130, 83, 99))


def _no_end(frame: bytearray) -> None:
    frame[len(frame.rstrip(b"\0")) - 1] = 0


def _end_is_pad(frame: bytearray) -> None:
    frame[:] = frame.replace(b"\xff\x06\x04", b"\x00\x06\x04")


def _beyond_the_end(area: bytes, offset: int, found: dict[int, bytes]) -> None:
    read_options(area + bytes(256), offset, found)


def _without(condition: Callable[[Packet], bool]) -> Any:
    """DHCP messages that meet the condition vanish."""
    return lambda packet: [] if Dhcpv4 in packet and condition(packet) else [packet.frame]


def _seconds(*delays: int) -> Callable[[pytest.MonkeyPatch], None]:
    return patched(dhcp_client, "RETRANSMISSIONS", tuple(delay * SECOND for delay in delays))


class Once:
    """Of what meets the condition only the first is sent."""

    def __init__(self, condition: Callable[[Packet], bool]) -> None:
        self._condition = condition
        self._sent = False

    def __call__(self, packet: Packet) -> list[bytes]:
        if not self._condition(packet):
            return [packet.frame]
        again, self._sent = self._sent, True
        return [] if again else [packet.frame]


def _kind(kind: DhcpMessageType) -> Callable[[Packet], bool]:
    return lambda packet: Dhcpv4 in packet and packet[Dhcpv4].message_type == kind


SAYS = (
    Mutant("client_speaks_bootp", ("rfc2131/3/01",), into=_edit(_any_cookie)),
    Mutant("client_hops", ("rfc2131/2/03",), out=change(Dhcpv4, hops=1)),
    Mutant("client_secs", ("rfc2131/2/04",), out=change(Dhcpv4, secs=99)),
    Mutant(
        "client_has_its_address",
        ("rfc2131/2/05", "rfc2131/3.2/01"),
        out=change(Dhcpv4, lambda message: message.ciaddr == NOWHERE, ciaddr=GUEST),
    ),
    Mutant("client_has_no_size", ("rfc2131/3.5/01",), out=change(Dhcpv4, options=with_options(MAXIMUM_DHCP_MESSAGE_SIZE=None))),
    Mutant(
        "client_is_small", ("rfc2132/9.10/01",), out=change(Dhcpv4, options=with_options(MAXIMUM_DHCP_MESSAGE_SIZE=b"\x01\x2c"))
    ),
    Mutant("client_draws_no_numbers", ("rfc2131/4.1/07",), patch=_one_number),
    Mutant(
        "client_port", ("rfc2131/4.1/08",), out=change(Udp, lambda udp: udp.source_port == 68, source_port=67, destination_port=68)
    ),
    Mutant("client_from_elsewhere", ("rfc2131/4.1/09",), out=change(IPv4, lambda ip: ip.source == NOWHERE, source=ELSEWHERE)),
    Mutant("client_never_ends", ("rfc2131/4.1/10",), out=_edit(_no_end)),
    Mutant("client_wants_broadcasts", ("rfc2131/4.1/12",), out=change(Dhcpv4, broadcast=True)),
    Mutant("client_is_another", ("rfc2131/4.4.1/05",), out=change(Dhcpv4, chaddr=OTHER_MAC)),
    Mutant(
        "client_asks_for_less",
        ("rfc2131/4.4.1/06",),
        out=change(Dhcpv4, dhcp_kind(REQUEST), options=with_options(PARAMETER_REQUEST_LIST=None)),
    ),
    Mutant("client_other_transaction", ("rfc2131/4.4.1/07",), out=change(Dhcpv4, dhcp_kind(REQUEST), xid=lambda m: m.xid ^ 1)),
    Mutant(
        "client_whispers",
        ("rfc2131/4.4.1/08",),
        out=change(Ethernet, lambda frame: frame.destination == BROADCAST_MAC, destination=OTHER_MAC),
    ),
    Mutant(
        "client_mixes_offers",
        ("rfc2132/9.7/02",),
        out=change(Dhcpv4, dhcp_kind(REQUEST), options=with_options(REQUESTED_IP_ADDRESS=ELSEWHERE.packed)),
    ),
    Mutant("client_discovers_once", ("rfc2131/3.1/06",), out=Once(_kind(DISCOVER))),
    Mutant("client_requests_once", ("rfc2131/3.1/07",), out=Once(_kind(REQUEST))),
)

BELIEVES = (
    Mutant(
        "client_any_transaction",
        ("rfc2131/4.4.1/03", "rfc2131/4.1/20", "rfc2131/4.4.5/06"),
        patch=hears(lambda client, message, _: replace(message, xid=client._xid)),
    ),
    Mutant("client_any_direction", ("rfc2131/2/02",), patch=hears(lambda _, message, __: replace(message, op=BOOTREPLY))),
    Mutant("client_any_hardware", ("rfc2131/2/08",), patch=hears(lambda client, message, _: replace(message, chaddr=client._mac))),
    Mutant("client_any_grant", ("rfc2131/4.4.1/04",), patch=hears(_grant_is_offer)),
    Mutant("client_deaf_to_unicast", ("rfc2131/2/07",), into=_without(lambda packet: packet[IPv4].destination != EVERYBODY)),
    Mutant("client_deaf_to_refusal", ("rfc2131/3.1/08",), into=drop(Dhcpv4, dhcp_kind(NAK))),
    Mutant("client_insists", ("rfc2131/3.2/02",), patch=hears(_nak_is_grant)),
    Mutant("client_reads_300_octets", ("rfc2131/2/06",), into=_without(lambda packet: len(packet[Udp].payload) > 540)),
    Mutant("client_reads_backwards", ("rfc2131/4.1/13", "rfc2131/4.1/15"), patch=_lease_with(dns=lambda lease: lease.dns[::-1])),
    Mutant("client_reads_no_fields", ("rfc2132/9.3/01",), patch=patched(dhcpv4, "_overload", lambda _: 0)),
    Mutant("client_reads_beyond", ("rfc2131/4.1/19",), patch=patched(dhcpv4, "read_options", _beyond_the_end)),
    Mutant(
        "client_reads_zeros",
        ("rfc2132/2/01",),
        patch=patched(dhcp_messages, "_text", lambda value: value and value.decode("ascii")),
    ),
    Mutant("client_reads_no_pads", ("rfc2132/3.1/01",), into=_without(lambda packet: packet[Udp].payload[240] == 0)),
    Mutant("client_reads_behind_the_end", ("rfc2132/3.2/01",), into=_edit(_end_is_pad)),
)

CHECKS = (
    Mutant("client_does_not_look", ("rfc2131/3.1/10",), out=drop(Arp, lambda arp: arp.sender_ip == NOWHERE)),
    Mutant(
        "client_looks_with_its_address",
        ("rfc2131/4.4.1/01",),
        out=change(Arp, lambda arp: arp.sender_ip == NOWHERE, sender_ip=lambda arp: arp.target_ip),
    ),
    Mutant("client_does_not_decline", ("rfc2131/3.1/11",), out=drop(Dhcpv4, dhcp_kind(DECLINE))),
    Mutant(
        "client_declines_to_one",
        ("rfc2131/4.4.4/01",),
        out=lambda p: [changed(p, IPv4, destination=GATEWAY) if Dhcpv4 in p and p[Dhcpv4].message_type == DECLINE else p.frame],
    ),
    Mutant("client_does_not_wait", ("rfc2131/3.1/12",), patch=patched(dhcp_client, "DECLINE_PAUSE", 0)),
    Mutant("client_announces_nothing", ("rfc2131/4.4.1/02",), out=drop(Arp, lambda arp: arp.sender_ip == arp.target_ip)),
)

TIMES = (
    Mutant("client_is_slow", ("rfc2131/4.1/16",), patch=_seconds(10, 20, 40, 64)),
    Mutant("client_is_quick", ("rfc2131/4.1/18",), patch=_seconds(4, 4, 4, 4)),
    Mutant("client_gives_up", ("rfc2131/4.1/17",), patch=_seconds(4, 8, 16, 32, 64, 128, 256)),
    Mutant("client_never_gives_up", ("rfc2131/3.1/09",), patch=patched(dhcp_client, "REQUEST_TRIES", 1000)),
    Mutant("client_t1_late", ("rfc2131/4.4.5/09",), patch=hears(_part_of_lease(DhcpOption.RENEWAL_TIME_VALUE, 13))),
    Mutant("client_t2_early", ("rfc2131/4.4.5/10",), patch=hears(_part_of_lease(DhcpOption.REBINDING_TIME_VALUE, 10))),
    Mutant("client_own_t1", ("rfc2132/9.11/01",), into=change(Dhcpv4, options=with_options(RENEWAL_TIME_VALUE=None))),
    Mutant("client_own_t2", ("rfc2132/9.12/01",), into=change(Dhcpv4, options=with_options(REBINDING_TIME_VALUE=None))),
    Mutant(
        "client_renews_at_the_router",
        ("rfc2131/4.1/11",),
        out=change(IPv4, lambda ip: ip.destination == GATEWAY + 2, destination=GATEWAY),
    ),
    Mutant("client_renews_nameless", ("rfc2131/4.4.5/07",), out=change(Dhcpv4, ciaddr=NOWHERE)),
    Mutant(
        "client_never_rebinds",
        ("rfc2131/4.4.5/08",),
        out=_without(lambda packet: packet[Dhcpv4].ciaddr != NOWHERE and packet[IPv4].destination == EVERYBODY),
    ),
    Mutant("client_waits_too_long", ("rfc2131/4.4.5/11",), patch=patched(dhcp_client, "EXTEND_INTERVAL", 900 * SECOND)),
    Mutant(
        "client_deaf_to_more_time",
        ("rfc2131/4.4.5/12",),
        into=drop(Dhcpv4, lambda message: message.message_type == GRANT and message.ciaddr != NOWHERE),
    ),
    Mutant("client_begins_late", ("rfc2131/4.4.1/10", "rfc2131/4.4.5/13"), patch=hears(_begins_now)),
    Mutant(
        "client_answers_for_the_old",
        ("rfc2131/4.4.5/15",),
        out=change(Arp, lambda arp: arp.operation == ArpOperation.REPLY and arp.sender_ip == GUEST + 1, sender_ip=GUEST),
    ),
    Mutant("client_counts_to_infinity", ("rfc2131/3.3/01",), patch=patched(dhcp_client, "INFINITE", 0)),
    Mutant(
        "client_reboots_without_address",
        ("rfc2131/4.4.2/01",),
        patch=requests_with("reboot", options=with_options(REQUESTED_IP_ADDRESS=None)),
    ),
    Mutant(
        "client_reboots_with_a_server",
        ("rfc2131/4.4.2/02",),
        patch=requests_with("reboot", options=with_options(SERVER_IDENTIFIER=GATEWAY.packed)),
    ),
)

WIRE_DHCP = (
    *(mutant for mutant in DHCP_CLIENT if mutant.name != "client_starts_at_16"),
    *SAYS,
    *BELIEVES,
    *CHECKS,
    *TIMES,
)
